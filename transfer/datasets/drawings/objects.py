"""The ten objects of the set `drawings`: upright, with parts whose arrangement their pictures have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from transfer.datasets.drawings.canvas import Canvas, CounterRng
from transfer.utils.lazy_imports import np


class Palette(NamedTuple):
    """The colors of one picture, (n, 3) float64 in 0..255 each."""

    ground: np.ndarray
    body: np.ndarray
    trim: np.ndarray
    detail: np.ndarray
    shade: np.ndarray  # the body's color where it turns away from the light
    shadow: np.ndarray  # the ground's color under the object


LIGHTNESS = (50.0, 100.0, 150.0, 200.0)  # far enough apart for every part to stand out


def mix_palette(draws: CounterRng) -> Palette:
    """Four lightnesses dealt at random to ground and parts, so that no object is known by its colors."""
    lots = np.stack([draws.between(0, 1) for _ in range(4)], axis=1)
    lots[:, 0] = np.maximum(
        lots[:, 0], draws.between(0, 1)
    )  # the ground is the lightest in 2 of 5 pictures
    ranks = (lots[:, :, None] > lots[:, None, :]).sum(axis=2)
    colors = []
    for part in range(4):
        tint = draws.tint(44)
        gray = (tint[:, 0] + tint[:, 1] + tint[:, 2]) / 3
        colors.append(
            tint + (np.array(LIGHTNESS)[ranks[:, part]] + draws.between(-14, 14) - gray)[:, None]
        )
    ground, body, trim, detail = colors
    return Palette(ground, body, trim, detail, shade=body * 0.78, shadow=ground * 0.8)


def house(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """Walls under a roof, a door between two windows, most with a chimney."""
    wall, eaves = draws.between(0.6, 0.8), draws.between(-0.25, 0.1)
    ridge, door, pane = (
        draws.between(0.0, 0.35),
        draws.between(0.14, 0.2),
        draws.between(0.13, 0.18),
    )
    chimney = draws.between(0.3, 0.5)
    canvas.ellipse(0, 0.97, 1, 0.08, paints.shadow)
    flue, built = draws.between(-1, -0.8), draws.chance(0.6)
    canvas.rectangle((chimney, flue), (chimney + 0.2, eaves), paints.shade, when=built)
    canvas.rectangle((-wall, eaves), (wall, 1), paints.body)
    canvas.polygon(
        [(-ridge, -0.9), (ridge, -0.9), (wall + 0.2, eaves), (-wall - 0.2, eaves)], paints.trim
    )
    entry = draws.between(-0.1, 0.1)
    canvas.rectangle((entry - door, draws.between(0.3, 0.45)), (entry + door, 1), paints.trim)
    sill = eaves + 0.25 + pane
    for x in (-wall * 0.62, wall * 0.62):
        canvas.rectangle((x - pane, sill - pane), (x + pane, sill + pane), paints.detail)


def tree(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """A trunk and a crown, round or pointed, many with fruit."""
    trunk, crown, pointed = draws.between(0.1, 0.16), draws.between(0.5, 0.75), draws.chance(0.4)
    canvas.ellipse(0, 0.95, draws.between(0.45, 0.65), 0.1, paints.shadow)
    canvas.polygon([(-trunk, 0), (trunk, 0), (trunk * 1.4, 1), (-trunk * 1.4, 1)], paints.trim)
    for step in range(3):
        width, top = crown * (1.1 - 0.25 * step), 0.05 - 0.5 * step
        canvas.polygon(
            [(-width, top + 0.4), (width, top + 0.4), (0, top - 0.35)], paints.body, when=pointed
        )
    spread = draws.between(0.25, 0.4)
    canvas.ellipse(-spread, -0.1, crown * 0.7, 0.45, paints.body, when=~pointed)
    canvas.ellipse(spread, -0.1, crown * 0.7, 0.45, paints.body, when=~pointed)
    canvas.ellipse(0, -0.5, crown * 0.8, 0.5, paints.body, when=~pointed)
    fruit = draws.chance(0.6)
    for x, y in ((-0.35, 0.0), (0.05, -0.55), (0.3, 0.05), (-0.05, -0.2)):
        x, y = x + draws.between(-0.08, 0.08), y + draws.between(-0.08, 0.08)
        canvas.ellipse(x, y, 0.08, 0.08, paints.detail, when=fruit)


def car(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """A cabin with two windows on a body, two wheels and a headlight."""
    roof, belt, wheel = (
        draws.between(-0.72, -0.52),
        draws.between(-0.15, 0.05),
        draws.between(0.21, 0.28),
    )
    front, back = draws.between(0.2, 0.35), draws.between(-0.6, -0.4)
    canvas.ellipse(0, 0.7, 1.05, 0.1, paints.shadow)
    canvas.polygon(
        [(back, roof), (front, roof), (front + 0.35, belt), (back - 0.25, belt)], paints.body
    )
    rear, fore, top = back + 0.02, front - 0.03, roof + 0.1
    canvas.polygon([(rear, top), (-0.12, top), (-0.12, belt), (rear - 0.14, belt)], paints.detail)
    canvas.polygon([(-0.02, top), (fore, top), (fore + 0.23, belt), (-0.02, belt)], paints.detail)
    canvas.polygon(
        [(-0.95, belt), (0.85, belt), (1, belt + 0.2), (1, 0.48), (-1, 0.48)], paints.body
    )
    canvas.rectangle((-1, 0.34), (1, 0.48), paints.shade)
    canvas.ellipse(0.9, belt + 0.22, 0.1, 0.08, paints.trim)
    for x in (-draws.between(0.5, 0.62), draws.between(0.5, 0.62)):
        canvas.ellipse(x, 0.48, wheel, wheel, paints.trim)
        canvas.ellipse(x, 0.48, wheel * 0.5, wheel * 0.5, paints.detail)


def boat(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """A mainsail and a jib on a mast, over a hull."""
    deck, mast, boom = (
        draws.between(0.4, 0.55),
        draws.between(-0.15, 0.1),
        draws.between(0.25, 0.35),
    )
    peak = draws.between(-0.95, -0.8)
    canvas.ellipse(0, 0.93, 1.15, 0.13, paints.shadow)
    canvas.stroke((mast, -1), (mast, deck), 0.09, paints.detail)
    canvas.polygon(
        [(mast + 0.07, peak), (mast + 0.07, boom), (draws.between(0.6, 0.85), boom)], paints.trim
    )
    jib = draws.between(-0.75, -0.55)
    canvas.polygon([(mast - 0.08, peak + 0.2), (mast - 0.08, boom), (jib, boom)], paints.trim)
    stern, bow = draws.between(-0.75, -0.6), draws.between(0.55, 0.7)
    canvas.polygon([(-0.95, deck), (1, deck), (bow, 0.95), (stern, 0.95)], paints.body)
    canvas.polygon(
        [(-0.95, deck), (1, deck), (0.93, deck + 0.12), (-0.88, deck + 0.12)], paints.detail
    )


def face(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """Hair, ears, two eyes, a nose and a mouth in a head."""
    jaw, brow, gap = (
        draws.between(0.65, 0.8),
        draws.between(-0.25, -0.08),
        draws.between(0.26, 0.36),
    )
    for x in (-jaw, jaw):
        canvas.ellipse(x, 0.05, 0.16, 0.22, paints.shade)
    canvas.ellipse(0, 0, jaw + 0.08, 1, paints.trim, above=draws.between(-0.2, 0.6))
    canvas.ellipse(0, 0.08, jaw, 0.9, paints.body, below=draws.between(-0.55, -0.4))
    eye, look = draws.between(0.12, 0.17), draws.between(-0.05, 0.05)
    for x in (-gap, gap):
        canvas.ellipse(x, brow, eye * 1.2, eye, paints.detail)
        canvas.ellipse(x + look, brow, eye * 0.55, eye * 0.6, paints.trim)
    nose = draws.between(0.15, 0.28)
    canvas.polygon([(0, brow + 0.1), (0.1, nose), (-0.1, nose)], paints.shade)
    lips = draws.between(0.38, 0.5)
    canvas.ellipse(
        0, lips, draws.between(0.25, 0.4), draws.between(0.12, 0.28), paints.detail, below=lips
    )


def fish(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """A tail, fins and an eye on a body, many with stripes."""
    belly, tail, fork = (
        draws.between(0.42, 0.62),
        draws.between(0.35, 0.55),
        draws.between(-0.85, -0.7),
    )
    for side in (-1, 1):
        canvas.polygon([(-0.4, 0), (-1, side * tail), (fork, 0)], paints.trim)
    back = belly * 0.6  # the fins start inside the body, which covers their roots
    canvas.polygon(
        [(-0.3, -back), (draws.between(-0.3, 0), -belly - 0.3), (0.4, -back)], paints.trim
    )
    canvas.polygon([(-0.1, back), (draws.between(-0.3, 0), belly + 0.25), (0.3, back)], paints.trim)
    canvas.ellipse(0.2, 0, 0.75, belly, paints.body)
    striped = draws.chance(0.6)
    for x, share in ((-0.15, 0.7), (0.15, 0.8)):
        canvas.ellipse(x, 0, 0.07, belly * share, paints.detail, when=striped)
    canvas.polygon([(0.3, 0.05), (0.02, 0.22), (0.02, -0.06)], paints.shade)
    eye = draws.between(-0.18, -0.05)
    canvas.ellipse(0.6, eye, 0.12, 0.12, paints.detail)
    canvas.ellipse(0.63, eye, 0.06, 0.06, paints.trim)


SIX = ((1.0, 0.0), (0.5, 0.866), (-0.5, 0.866), (-1.0, 0.0), (-0.5, -0.866), (0.5, -0.866))


def flower(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """Six petals about a heart, on a stem with two leaves."""
    petal, ring, head = (
        draws.between(0.2, 0.27),
        draws.between(0.3, 0.36),
        draws.between(-0.42, -0.35),
    )
    half = draws.between(-0.27, 0.27)  # tangent of half the angle that the petals are turned by
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    canvas.stroke((0, head), (draws.between(-0.1, 0.1), 1), 0.11, paints.detail)
    for side, y in ((-1, draws.between(0.65, 0.8)), (1, draws.between(0.55, 0.75))):
        tip, lift = side * draws.between(0.45, 0.65), draws.between(0.2, 0.4)
        canvas.polygon(
            [(0, y), (tip * 0.6, y), (tip, y - lift), (tip * 0.35, y - lift)], paints.trim
        )
    for x, y in SIX:
        x, y = x * cosine - y * sine, x * sine + y * cosine
        canvas.ellipse(ring * x, head + ring * y, petal, petal, paints.body)
    canvas.ellipse(0, head, draws.between(0.16, 0.24), draws.between(0.16, 0.24), paints.detail)


def cup(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """A handle at the side, a rim, most with a band and a saucer."""
    mouth, foot, lip = (
        draws.between(0.55, 0.7),
        draws.between(0.35, 0.55),
        draws.between(-0.6, -0.4),
    )
    canvas.ellipse(0, 0.82, 0.95, draws.between(0.12, 0.18), paints.detail, when=draws.chance(0.6))
    canvas.ellipse(mouth * 0.95, 0.1, 0.38, draws.between(0.3, 0.4), paints.shade, hole=0.6)
    canvas.polygon([(-mouth, lip), (mouth, lip), (foot, 0.8), (-foot, 0.8)], paints.body)
    canvas.ellipse(0, 0.8, foot, 0.1, paints.body)
    top, bottom = draws.between(-0.15, 0.05), draws.between(0.2, 0.4)
    taper, banded = (mouth - foot) / (0.8 - lip), draws.chance(0.7)
    upper, lower = mouth - (top - lip) * taper, mouth - (bottom - lip) * taper
    canvas.polygon(
        [(-upper, top), (upper, top), (lower, bottom), (-lower, bottom)], paints.trim, when=banded
    )
    canvas.ellipse(0, lip, mouth, 0.16, paints.shade)
    canvas.ellipse(0, lip, mouth * 0.85, 0.11, paints.detail)


def lamp(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """A shade with a cord, on a stem with a knob and a foot."""
    top, rim, hem = draws.between(0.2, 0.45), draws.between(0.6, 0.8), draws.between(-0.2, 0.05)
    foot, knob = draws.between(0.35, 0.55), draws.between(0.12, 0.28)
    canvas.ellipse(0, 0.99, foot * 1.5, 0.08, paints.shadow)
    canvas.stroke((0, hem), (0, 0.9), draws.between(0.1, 0.16), paints.body)
    canvas.ellipse(0, draws.between(0.4, 0.6), knob, 0.2, paints.body)
    canvas.ellipse(0, 1, foot, draws.between(0.15, 0.25), paints.body, above=0.98)
    cord = rim * draws.between(0.4, 0.7)
    canvas.stroke((cord, hem), (cord, hem + 0.3), 0.06, paints.detail)
    canvas.ellipse(cord, hem + 0.32, 0.08, 0.08, paints.detail)
    canvas.polygon([(-top, -0.95), (top, -0.95), (rim, hem), (-rim, hem)], paints.trim)
    canvas.polygon([(-rim, hem - 0.1), (rim, hem - 0.1), (rim, hem), (-rim, hem)], paints.detail)


def cat(canvas: Canvas, draws: CounterRng, paints: Palette) -> None:
    """Ears, eyes and whiskers on a head, over a sitting body with a curled tail."""
    head, skull, hips = (
        draws.between(-0.45, -0.35),
        draws.between(0.4, 0.5),
        draws.between(0.45, 0.6),
    )
    canvas.ellipse(0, 1, 0.85, 0.1, paints.shadow)
    canvas.ellipse(hips, draws.between(0.4, 0.6), 0.38, 0.4, paints.shade, hole=0.65)
    canvas.ellipse(0, 0.5, hips, 0.6, paints.body, above=1)
    canvas.ellipse(0, 0.55, hips * 0.5, 0.4, paints.trim, when=draws.chance(0.6))
    ear, tip = draws.between(0.1, 0.2), draws.between(-1, -0.9)
    for side in (-1, 1):
        canvas.ellipse(side * 0.2, 0.95, 0.17, 0.1, paints.shade)
        outer = side * skull
        canvas.polygon(
            [(outer * 0.95, head), (outer, tip), (outer * ear, head - 0.25)], paints.body
        )
    canvas.ellipse(0, head, skull, 0.38, paints.body)
    for side in (-1, 1):
        canvas.ellipse(side * 0.18, head - 0.05, 0.1, 0.09, paints.detail)
        whisker = head + draws.between(0.1, 0.25)
        canvas.stroke((side * 0.15, head + 0.15), (side * 0.6, whisker), 0.04, paints.detail)
    canvas.polygon([(-0.08, head + 0.08), (0.08, head + 0.08), (0, head + 0.18)], paints.detail)


Drawing: TypeAlias = Callable[[Canvas, CounterRng, Palette], None]
OBJECTS: tuple[Drawing, ...] = (house, tree, car, boat, face, fish, flower, cup, lamp, cat)
CLASSES: tuple[str, ...] = tuple(draw.__name__ for draw in OBJECTS)
