"""The ten objects of the set `drawings`: upright, each with its own arrangement of parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from transfer.datasets.drawings.canvas import Canvas, CounterRng
from transfer.datasets.drawings.palette import Palette


def house(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """Walls under a roof, a door between two windows, most with a chimney."""
    wall, eaves = rng.between(0.6, 0.8), rng.between(-0.25, 0.1)
    ridge, door, pane = (
        rng.between(0.0, 0.35),
        rng.between(0.14, 0.2),
        rng.between(0.13, 0.18),
    )
    chimney = rng.between(0.3, 0.5)
    canvas.ellipse(0, 0.97, 1, 0.08, palette.shadow)
    flue, built = rng.between(-1, -0.8), rng.chance(0.6)
    canvas.rectangle((chimney, flue), (chimney + 0.2, eaves), palette.shade, when=built)
    canvas.rectangle((-wall, eaves), (wall, 1), palette.body)
    canvas.polygon(
        [(-ridge, -0.9), (ridge, -0.9), (wall + 0.2, eaves), (-wall - 0.2, eaves)], palette.trim
    )
    entry = rng.between(-0.1, 0.1)
    canvas.rectangle((entry - door, rng.between(0.3, 0.45)), (entry + door, 1), palette.trim)
    sill = eaves + 0.25 + pane
    for x in (-wall * 0.62, wall * 0.62):
        canvas.rectangle((x - pane, sill - pane), (x + pane, sill + pane), palette.detail)


def tree(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """A trunk and a crown, round or pointed, many with fruit."""
    trunk, crown, pointed = rng.between(0.1, 0.16), rng.between(0.5, 0.75), rng.chance(0.4)
    canvas.ellipse(0, 0.95, rng.between(0.45, 0.65), 0.1, palette.shadow)
    canvas.polygon([(-trunk, 0), (trunk, 0), (trunk * 1.4, 1), (-trunk * 1.4, 1)], palette.trim)
    for step in range(3):
        width, top = crown * (1.1 - 0.25 * step), 0.05 - 0.5 * step
        canvas.polygon(
            [(-width, top + 0.4), (width, top + 0.4), (0, top - 0.35)], palette.body, when=pointed
        )
    spread = rng.between(0.25, 0.4)
    canvas.ellipse(-spread, -0.1, crown * 0.7, 0.45, palette.body, when=~pointed)
    canvas.ellipse(spread, -0.1, crown * 0.7, 0.45, palette.body, when=~pointed)
    canvas.ellipse(0, -0.5, crown * 0.8, 0.5, palette.body, when=~pointed)
    fruit = rng.chance(0.6)
    for x, y in ((-0.35, 0.0), (0.05, -0.55), (0.3, 0.05), (-0.05, -0.2)):
        x, y = x + rng.between(-0.08, 0.08), y + rng.between(-0.08, 0.08)
        canvas.ellipse(x, y, 0.08, 0.08, palette.detail, when=fruit)


def car(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """A cabin with two windows on a body, two wheels and a headlight."""
    roof, belt, wheel = (
        rng.between(-0.72, -0.52),
        rng.between(-0.15, 0.05),
        rng.between(0.21, 0.28),
    )
    front, back = rng.between(0.2, 0.35), rng.between(-0.6, -0.4)
    canvas.ellipse(0, 0.7, 1.05, 0.1, palette.shadow)
    canvas.polygon(
        [(back, roof), (front, roof), (front + 0.35, belt), (back - 0.25, belt)], palette.body
    )
    rear, fore, top = back + 0.02, front - 0.03, roof + 0.1
    canvas.polygon([(rear, top), (-0.12, top), (-0.12, belt), (rear - 0.14, belt)], palette.detail)
    canvas.polygon([(-0.02, top), (fore, top), (fore + 0.23, belt), (-0.02, belt)], palette.detail)
    canvas.polygon(
        [(-0.95, belt), (0.85, belt), (1, belt + 0.2), (1, 0.48), (-1, 0.48)], palette.body
    )
    canvas.rectangle((-1, 0.34), (1, 0.48), palette.shade)
    canvas.ellipse(0.9, belt + 0.22, 0.1, 0.08, palette.trim)
    for x in (-rng.between(0.5, 0.62), rng.between(0.5, 0.62)):
        canvas.ellipse(x, 0.48, wheel, wheel, palette.trim)
        canvas.ellipse(x, 0.48, wheel * 0.5, wheel * 0.5, palette.detail)


def boat(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """A mainsail and a jib on a mast, over a hull."""
    deck, mast, boom = (
        rng.between(0.4, 0.55),
        rng.between(-0.15, 0.1),
        rng.between(0.25, 0.35),
    )
    peak = rng.between(-0.95, -0.8)
    canvas.ellipse(0, 0.93, 1.15, 0.13, palette.shadow)
    canvas.stroke((mast, -1), (mast, deck), 0.09, palette.detail)
    canvas.polygon(
        [(mast + 0.07, peak), (mast + 0.07, boom), (rng.between(0.6, 0.85), boom)], palette.trim
    )
    jib = rng.between(-0.75, -0.55)
    canvas.polygon([(mast - 0.08, peak + 0.2), (mast - 0.08, boom), (jib, boom)], palette.trim)
    stern, bow = rng.between(-0.75, -0.6), rng.between(0.55, 0.7)
    canvas.polygon([(-0.95, deck), (1, deck), (bow, 0.95), (stern, 0.95)], palette.body)
    canvas.polygon(
        [(-0.95, deck), (1, deck), (0.93, deck + 0.12), (-0.88, deck + 0.12)], palette.detail
    )


def face(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """Hair, ears, two eyes, a nose and a mouth in a head."""
    jaw, brow, gap = (
        rng.between(0.65, 0.8),
        rng.between(-0.25, -0.08),
        rng.between(0.26, 0.36),
    )
    for x in (-jaw, jaw):
        canvas.ellipse(x, 0.05, 0.16, 0.22, palette.shade)
    canvas.ellipse(0, 0, jaw + 0.08, 1, palette.trim, above=rng.between(-0.2, 0.6))
    canvas.ellipse(0, 0.08, jaw, 0.9, palette.body, below=rng.between(-0.55, -0.4))
    eye, look = rng.between(0.12, 0.17), rng.between(-0.05, 0.05)
    for x in (-gap, gap):
        canvas.ellipse(x, brow, eye * 1.2, eye, palette.detail)
        canvas.ellipse(x + look, brow, eye * 0.55, eye * 0.6, palette.trim)
    nose = rng.between(0.15, 0.28)
    canvas.polygon([(0, brow + 0.1), (0.1, nose), (-0.1, nose)], palette.shade)
    lips = rng.between(0.38, 0.5)
    canvas.ellipse(
        0, lips, rng.between(0.25, 0.4), rng.between(0.12, 0.28), palette.detail, below=lips
    )


def fish(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """A tail, fins and an eye on a body, many with stripes."""
    belly, tail, fork = (
        rng.between(0.42, 0.62),
        rng.between(0.35, 0.55),
        rng.between(-0.85, -0.7),
    )
    for side in (-1, 1):
        canvas.polygon([(-0.4, 0), (-1, side * tail), (fork, 0)], palette.trim)
    back = belly * 0.6  # the fins start inside the body, which covers their roots
    canvas.polygon(
        [(-0.3, -back), (rng.between(-0.3, 0), -belly - 0.3), (0.4, -back)], palette.trim
    )
    canvas.polygon([(-0.1, back), (rng.between(-0.3, 0), belly + 0.25), (0.3, back)], palette.trim)
    canvas.ellipse(0.2, 0, 0.75, belly, palette.body)
    striped = rng.chance(0.6)
    for x, share in ((-0.15, 0.7), (0.15, 0.8)):
        canvas.ellipse(x, 0, 0.07, belly * share, palette.detail, when=striped)
    canvas.polygon([(0.3, 0.05), (0.02, 0.22), (0.02, -0.06)], palette.shade)
    eye = rng.between(-0.18, -0.05)
    canvas.ellipse(0.6, eye, 0.12, 0.12, palette.detail)
    canvas.ellipse(0.63, eye, 0.06, 0.06, palette.trim)


# Directions of the petals: cosine and sine of the multiples of 60 degrees.
SIX = ((1.0, 0.0), (0.5, 0.866), (-0.5, 0.866), (-1.0, 0.0), (-0.5, -0.866), (0.5, -0.866))


def flower(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """Six petals about a heart, on a stem with two leaves."""
    petal, ring, head = (
        rng.between(0.2, 0.27),
        rng.between(0.3, 0.36),
        rng.between(-0.42, -0.35),
    )
    half = rng.between(-0.27, 0.27)  # tangent of half the angle of the petals
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    canvas.stroke((0, head), (rng.between(-0.1, 0.1), 1), 0.11, palette.detail)
    for side, y in ((-1, rng.between(0.65, 0.8)), (1, rng.between(0.55, 0.75))):
        tip, lift = side * rng.between(0.45, 0.65), rng.between(0.2, 0.4)
        canvas.polygon(
            [(0, y), (tip * 0.6, y), (tip, y - lift), (tip * 0.35, y - lift)], palette.trim
        )
    for x, y in SIX:
        x, y = x * cosine - y * sine, x * sine + y * cosine
        canvas.ellipse(ring * x, head + ring * y, petal, petal, palette.body)
    canvas.ellipse(0, head, rng.between(0.16, 0.24), rng.between(0.16, 0.24), palette.detail)


def cup(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """A handle at the side, a rim, most with a band and a saucer."""
    mouth, foot, lip = (
        rng.between(0.55, 0.7),
        rng.between(0.35, 0.55),
        rng.between(-0.6, -0.4),
    )
    canvas.ellipse(0, 0.82, 0.95, rng.between(0.12, 0.18), palette.detail, when=rng.chance(0.6))
    canvas.ellipse(mouth * 0.95, 0.1, 0.38, rng.between(0.3, 0.4), palette.shade, hole=0.6)
    canvas.polygon([(-mouth, lip), (mouth, lip), (foot, 0.8), (-foot, 0.8)], palette.body)
    canvas.ellipse(0, 0.8, foot, 0.1, palette.body)
    top, bottom = rng.between(-0.15, 0.05), rng.between(0.2, 0.4)
    taper, banded = (mouth - foot) / (0.8 - lip), rng.chance(0.7)
    upper, lower = mouth - (top - lip) * taper, mouth - (bottom - lip) * taper
    canvas.polygon(
        [(-upper, top), (upper, top), (lower, bottom), (-lower, bottom)], palette.trim, when=banded
    )
    canvas.ellipse(0, lip, mouth, 0.16, palette.shade)
    canvas.ellipse(0, lip, mouth * 0.85, 0.11, palette.detail)


def lamp(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """A shade with a cord, on a stem with a knob and a foot."""
    top, rim, hem = rng.between(0.2, 0.45), rng.between(0.6, 0.8), rng.between(-0.2, 0.05)
    foot, knob = rng.between(0.35, 0.55), rng.between(0.12, 0.28)
    canvas.ellipse(0, 0.99, foot * 1.5, 0.08, palette.shadow)
    canvas.stroke((0, hem), (0, 0.9), rng.between(0.1, 0.16), palette.body)
    canvas.ellipse(0, rng.between(0.4, 0.6), knob, 0.2, palette.body)
    canvas.ellipse(0, 1, foot, rng.between(0.15, 0.25), palette.body, above=0.98)
    cord = rim * rng.between(0.4, 0.7)
    canvas.stroke((cord, hem), (cord, hem + 0.3), 0.06, palette.detail)
    canvas.ellipse(cord, hem + 0.32, 0.08, 0.08, palette.detail)
    canvas.polygon([(-top, -0.95), (top, -0.95), (rim, hem), (-rim, hem)], palette.trim)
    canvas.polygon([(-rim, hem - 0.1), (rim, hem - 0.1), (rim, hem), (-rim, hem)], palette.detail)


def cat(canvas: Canvas, rng: CounterRng, palette: Palette) -> None:
    """Ears, eyes and whiskers on a head, over a sitting body with a curled tail."""
    head, skull, hips = (
        rng.between(-0.45, -0.35),
        rng.between(0.4, 0.5),
        rng.between(0.45, 0.6),
    )
    canvas.ellipse(0, 1, 0.85, 0.1, palette.shadow)
    canvas.ellipse(hips, rng.between(0.4, 0.6), 0.38, 0.4, palette.shade, hole=0.65)
    canvas.ellipse(0, 0.5, hips, 0.6, palette.body, above=1)
    canvas.ellipse(0, 0.55, hips * 0.5, 0.4, palette.trim, when=rng.chance(0.6))
    ear, tip = rng.between(0.1, 0.2), rng.between(-1, -0.9)
    for side in (-1, 1):
        canvas.ellipse(side * 0.2, 0.95, 0.17, 0.1, palette.shade)
        outer = side * skull
        canvas.polygon(
            [(outer * 0.95, head), (outer, tip), (outer * ear, head - 0.25)], palette.body
        )
    canvas.ellipse(0, head, skull, 0.38, palette.body)
    for side in (-1, 1):
        canvas.ellipse(side * 0.18, head - 0.05, 0.1, 0.09, palette.detail)
        whisker = head + rng.between(0.1, 0.25)
        canvas.stroke((side * 0.15, head + 0.15), (side * 0.6, whisker), 0.04, palette.detail)
    canvas.polygon([(-0.08, head + 0.08), (0.08, head + 0.08), (0, head + 0.18)], palette.detail)


Drawing: TypeAlias = Callable[[Canvas, CounterRng, Palette], None]
OBJECTS: tuple[Drawing, ...] = (house, tree, car, boat, face, fish, flower, cup, lamp, cat)
CLASSES: tuple[str, ...] = tuple(draw.__name__ for draw in OBJECTS)
