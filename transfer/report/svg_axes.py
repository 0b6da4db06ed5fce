"""The axes of SVG plots: scales, round ticks and their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 360, 210  # what a phone shows without shrinking it
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 36
BEYOND = 4.0  # px of the mark of an interval that goes beyond the axis
LETTER = 6.2  # px of a letter of the axes, at most, roughly
X_TICKS, Y_TICKS = 6, 5
MAX_LOG_VALUES = 6  # up to which a logarithmic axis has a tick at each value
Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)
LINE = '<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>'


@dataclass(frozen=True)
class XAxis:
    """The x axis: linear, logarithmic or of named places."""

    low: float  # of the data; a logarithm if `log`
    high: float
    log: bool = False
    names: Sequence[str] = ()  # of the places 0, 1, 2, ...

    @staticmethod
    def over(values: Sequence[float], log: bool, names: Sequence[str]) -> XAxis:
        """An axis that covers the values.

        Args:
            values: of all points.
            log: a logarithmic axis.
            names: of the places 0, 1, 2, ...
        """
        places = [_log(value) if log else value for value in values]
        low, high = min(places), max(places)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return XAxis(low, high, log, names)

    def px(self, value: float) -> float:
        """The x coordinate of a value."""
        margin = 0.04 * (self.high - self.low)
        place = _log(value) if self.log else value
        share = (place - self.low + margin) / (self.high - self.low + 2 * margin)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self, values: Sequence[float]) -> list[float]:
        """Where the axis has labels, for points at these values."""
        if self.names:
            return list(range(len(self.names)))
        if self.log:
            return self._log_ticks(values)
        whole = all(float(value).is_integer() for value in values)
        return [
            tick
            for tick in round_ticks(self.low, self.high, X_TICKS)
            if self.low <= tick <= self.high and (not whole or float(tick).is_integer())
        ]

    def _log_ticks(self, values: Sequence[float]) -> list[float]:
        distinct = sorted({10 ** _log(value) for value in values})
        if len(distinct) <= MAX_LOG_VALUES:
            return distinct
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        steps = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        ticks = [tick for tick in steps if self.low - 0.05 <= math.log10(tick) <= self.high + 0.05]
        return ticks or [10**self.low, 10**self.high]

    def svg(self, values: Sequence[float]) -> Markup:
        """The axis with its labels. Long names are rotated; numbers that overlap are left out."""
        ticks = self.ticks(values)
        labels = [self.names[int(tick)] if self.names else number_text(tick) for tick in ticks]
        widest = LETTER * max((len(label) for label in labels), default=0)
        space = (WIDTH - LEFT - RIGHT) / max(1, len(ticks))
        base, end = HEIGHT - BOTTOM, -math.inf
        parts = [line_svg("axis", LEFT, WIDTH - RIGHT, base, base)]
        for tick, label in zip(ticks, labels, strict=True):
            x, half = self.px(tick), LETTER * len(label) / 2
            if self.names and widest > space:
                parts.append(rotated_text(label, x + 4, base + 11, -28, "end"))
            elif x - half > end:
                parts.append(text_svg(label, x, base + 14))
                end = x + half + 2
        return Markup("").join(parts)


@dataclass(frozen=True)
class YAxis:
    """The linear y axis."""

    low: float
    high: float
    ticks: Sequence[float]

    @staticmethod
    def over(values: Sequence[float], bounds: Bounds = UNBOUNDED, count: int = Y_TICKS) -> YAxis:
        """An axis that covers the values, with round ticks.

        Args:
            values: of all points, and the ends of their intervals.
            bounds: which the axis does not exceed, whatever the intervals do.
            count: of ticks, roughly.
        """
        values = [min(max(value, bounds[0]), bounds[1]) for value in values]
        ticks = round_ticks(min(values, default=0.0), max(values, default=1.0), count)
        low, high = max(ticks[0], bounds[0]), min(ticks[-1], bounds[1])
        return YAxis(low, high, [tick for tick in ticks if low <= tick <= high])

    def px(self, value: float) -> float:
        """The y coordinate of a value."""
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def clipped(self, interval: tuple[float, float]) -> tuple[float, float]:
        """The part of an interval that the axis covers."""
        return max(interval[0], self.low), min(interval[1], self.high)

    def svg(self) -> Markup:
        """The grid with its labels."""
        parts = []
        for tick in self.ticks:
            y = self.px(tick)
            parts.append(line_svg("grid", LEFT, WIDTH - RIGHT, y, y))
            parts.append(text_svg(number_text(tick), LEFT - 4, y + 3.5, "end"))
        return Markup("").join(parts)


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that cover a range.

    Args:
        low: the lower end.
        high: the upper end.
        count: how many there are, roughly.
    """
    if not high > low:
        low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    rough = (high - low) / max(1, count - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def number_text(value: float) -> str:
    """A number with four digits at most; large ones with commas."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def line_svg(css_class: str, x1: float, x2: float, y1: float, y2: float) -> Markup:
    """A straight line.

    Args:
        css_class: of the style sheet.
        x1: where it starts.
        x2: where it ends.
        y1: where it starts.
        y2: where it ends.
    """
    return Markup(LINE).format(css_class, x1, x2, y1, y2)


def beyond_svg(css_class: str, x: float, y: float, up: bool) -> Markup:
    """A mark at the end of the axis: the interval goes on beyond it.

    Args:
        css_class: of the style sheet.
        x: of the interval.
        y: of the end of the axis.
        up: whether it is the upper end.
    """
    tip = y - BEYOND if up else y + BEYOND
    svg = Markup('<path class="{} beyond" d="M{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}"/>')
    return svg.format(css_class, x - BEYOND, y, x, tip, x + BEYOND, y)


def text_svg(text: str, x: float, y: float, anchor: str = "middle") -> Markup:
    """A line of text.

    Args:
        text: the text.
        x: of its anchor.
        y: of its base line.
        anchor: `start`, `middle` or `end`.
    """
    svg = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return svg.format(x, y, anchor, text)


def rotated_text(text: str, x: float, y: float, degrees: int, anchor: str = "middle") -> Markup:
    """A rotated line of text.

    Args:
        text: the text.
        x: of its anchor.
        y: of its anchor.
        degrees: clockwise.
        anchor: `start`, `middle` or `end`.
    """
    svg = Markup('<text transform="translate({:.1f} {:.1f}) rotate({})" text-anchor="{}">{}</text>')
    return svg.format(x, y, degrees, anchor, text)


def _log(value: float) -> float:
    return math.log10(max(value, 1e-12))
