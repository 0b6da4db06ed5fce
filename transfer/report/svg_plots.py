"""Plots as SVG inside the page: its own fonts and colors, light or dark, sharp in print, and readable without eyes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 360, 210  # what a phone shows without shrinking it
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 36
COLORS = 8  # classes c0 .. c7 of the style sheet; then again, dashed
LETTER = 6.2  # px that a letter of the axes takes at most, nearly


@dataclass(frozen=True)
class Series:
    """A line: points from left to right, with their intervals where they have some. `kind` is what tells colors."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    spans: Sequence[tuple[float, float] | None] = ()
    kind: str = ""
    quiet: bool = False  # what others are compared with


def lines(
    title: str,
    series: Sequence[Series],
    x: str,
    y: str,
    *,
    level: tuple[str, float] | None = None,
    names: Sequence[str] = (),
    log: bool = False,
    floor: float | None = None,
    steps: bool = False,
    kinds: Sequence[str] = (),
    dots: bool = False,
) -> Markup:
    """A line plot with its legend. `level`: a named horizontal line; `names`: of the places on the x axis.

    log: the x axis is logarithmic. floor: the y axis starts no higher. steps: lines as stairs, not from point to point.
    dots: points alone.
    kinds: what colors tell, in order, where one legend serves several plots; their lines have none of their own then.
    """
    series = [thinned(one) for one in series if len(one.xs)]
    if not series:
        return Markup("")
    place = (lambda value: math.log10(max(value, 1e-12))) if log else (lambda value: value)
    xs = [place(value) for one in series for value in one.xs]
    ends = [end for one in series for span in one.spans if span for end in span]
    ys = (
        [value for one in series for value in one.ys if math.isfinite(value)]
        + ends
        + ([level[1]] if level else [])
    )
    ys += [] if floor is None else [floor]
    ticks = nice(min(ys, default=0.0), max(ys, default=1.0), 5)
    low, high = min(ticks[0], *ys, ticks[0]), max(ticks[-1], *ys, ticks[-1])
    left, right = (min(xs), max(xs)) if min(xs) < max(xs) else (min(xs) - 0.5, max(xs) + 0.5)
    pad = 0.04 * (right - left)

    def across(value: float) -> float:
        return LEFT + (place(value) - left + pad) / (right - left + 2 * pad) * (
            WIDTH - LEFT - RIGHT
        )

    def up(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    out = [_axis_y(ticks, up), _axis_x(_places(xs, names, log, left, right), across, log, names)]
    if level:
        out.append(
            Markup('<line class="level" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                LEFT, WIDTH - RIGHT, up(level[1]), up(level[1])
            )
        )
    shared, kinds = (
        bool(kinds),
        list(kinds or dict.fromkeys(one.kind or one.name for one in series)),
    )
    for one in series:
        out.append(_line(one, kinds.index(one.kind or one.name), across, up, steps, dots))
    out.append(
        Markup('<text class="of" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x
        )
    )
    turned = Markup(
        '<text class="of" transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>'
    )
    out.append(turned.format((TOP + HEIGHT - BOTTOM) / 2, y))
    told = f"{title}: {_told(series)}" + (f"; {level[0]} {_short(level[1])}" if level else "")
    svg = Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, told, Markup("").join(out))
    return svg + legend(
        [] if shared else kinds, level, [one.kind or one.name for one in series if one.quiet]
    )


def legend(
    kinds: Sequence[str], level: tuple[str, float] | None = None, quiet: Sequence[str] = ()
) -> Markup:
    """Names beside their colors; nothing where there is one line only."""
    key = Markup(
        '<li><svg class="key" viewBox="0 0 22 8" aria-hidden="true"><line class="{}" x1="1" x2="21" y1="4" y2="4"/>'
        "</svg>{}</li>"
    )
    items = (
        [
            key.format(_classes(number) + (" quiet" if name in quiet else ""), name)
            for number, name in enumerate(kinds)
        ]
        if len(kinds) > 1
        else []
    )
    if level:
        items.append(key.format("level", f"{level[0]} ({_short(level[1])})"))
    return (
        Markup('<ul class="legend">{}</ul>').format(Markup("").join(items)) if items else Markup("")
    )


def thinned(one: Series, most: int = 300) -> Series:
    """No more points than a plot can show."""
    if len(one.xs) <= most:
        return one
    rows = sorted({round(i * (len(one.xs) - 1) / (most - 1)) for i in range(most)})
    spans = [one.spans[i] for i in rows] if one.spans else ()
    return Series(
        one.name, [one.xs[i] for i in rows], [one.ys[i] for i in rows], spans, one.kind, one.quiet
    )


def nice(low: float, high: float, count: int) -> list[float]:
    """Round numbers, about `count` of them, that reach over low and high."""
    if not high > low:
        low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    rough = (high - low) / max(1, count - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def scale(lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float, list[float]]:
    """The ends and the ticks of an axis that is drawn with the page's own boxes: see the comparison's plot."""
    ticks = nice(min(lows), max(highs), 5)
    return ticks[0], ticks[-1], ticks


def _classes(number: int) -> str:
    return f"c{number % COLORS}" + (" again" if number >= COLORS else "")


def _line(one: Series, number: int, across, up, steps: bool, dots: bool) -> Markup:
    points = [(across(a), up(b)) for a, b in zip(one.xs, one.ys, strict=True) if math.isfinite(b)]
    classes = _classes(number) + (" quiet" if one.quiet else "")
    out = []
    if len(points) > 1 and not dots:
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join(
            f"H{a:.1f}V{b:.1f}" if steps else f"L{a:.1f} {b:.1f}" for a, b in points[1:]
        )
        out.append(Markup('<path class="{}" d="{}"/>').format(classes, path))
    if dots or (len(points) <= 40 and not steps):
        for a, b in points:
            out.append(
                Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2.4"/>').format(classes, a, b)
            )
    for (a, _), span in zip(points, one.spans, strict=False):
        if span:
            out.append(
                Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    classes, a, a, up(span[0]), up(span[1])
                )
            )
    values = zip(one.xs, one.ys, strict=True)
    told = ", ".join(_short(b) for _, b in list(values)[-1:])
    return Markup("<g><title>{}: {}</title>{}</g>").format(one.name, told, Markup("").join(out))


def _axis_y(ticks: Sequence[float], up) -> Markup:
    out = [
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text x="{}" y="{:.1f}" '
            'text-anchor="end">{}</text>'
        ).format(LEFT, WIDTH - RIGHT, up(tick), up(tick), LEFT - 4, up(tick) + 3.5, _short(tick))
        for tick in ticks
    ]
    return Markup("").join(out)


def _places(
    xs: Sequence[float], names: Sequence[str], log: bool, left: float, right: float
) -> list[float]:
    """Where the x axis has numbers or names."""
    if names:
        return list(range(len(names)))
    if log and len(set(xs)) <= 6:
        return sorted({10**value for value in xs})
    if log:
        powers = range(math.floor(left), math.ceil(right) + 1)
        rounded = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        found = [value for value in rounded if left - 0.05 <= math.log10(value) <= right + 0.05]
        return found or [10**left, 10**right]
    whole = all(float(value).is_integer() for value in xs)
    return [
        tick
        for tick in nice(left, right, 6)
        if left <= tick <= right and (not whole or float(tick).is_integer())
    ]


def _axis_x(places: Sequence[float], across, log: bool, names: Sequence[str]) -> Markup:
    """Numbers or names below the axis. What would lie on the one before is left out; names are turned instead."""
    labels = [names[int(place)] if names else _short(place) for place in places]
    widest = LETTER * max((len(one) for one in labels), default=0)
    room = (WIDTH - LEFT - RIGHT) / max(1, len(places))
    base, out, end = HEIGHT - BOTTOM, [], -1e9
    for place, told in zip(places, labels, strict=True):
        a = across(place)
        if names and widest > room:
            out.append(
                Markup(
                    '<text transform="translate({:.1f} {}) rotate(-28)" text-anchor="end">{}</text>'
                ).format(a + 4, base + 11, told)
            )
        elif a - LETTER * len(told) / 2 > end:
            out.append(
                Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                    a, base + 14, told
                )
            )
            end = a + LETTER * len(told) / 2 + 2
    axis = Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        LEFT, WIDTH - RIGHT, base, base
    )
    return axis + Markup("").join(out)


def _short(value: float) -> str:
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _told(series: Sequence[Series]) -> str:
    """The plot in words: each line's first and last value."""
    parts = [
        f"{one.name} {_short(one.ys[0])}" + (f" to {_short(one.ys[-1])}" if len(one.ys) > 1 else "")
        for one in series
    ]
    more = f" and {len(parts) - 12} more" if len(parts) > 12 else ""
    return "; ".join(parts[:12]) + more
