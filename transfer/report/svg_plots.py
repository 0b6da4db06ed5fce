"""Line plots as SVG in the page, with a description for readers who cannot see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from transfer.report.svg_axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    UNBOUNDED,
    WIDTH,
    XAxis,
    YAxis,
    beyond_svg,
    line_svg,
    number_text,
)

COLORS = 8  # classes c0 .. c7 of the style sheet; further ones are dashed
MAX_POINTS = 300  # of a series
MAX_MARKED_POINTS = 40  # up to which a line shows its points
DESCRIBED_SERIES = 12

Interval = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A line: points from left to right, with an interval each or none.

    Series of one `group` share a color; without a group each has its own. `quiet` ones are
    references, drawn faintly.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    intervals: Sequence[Interval | None] = ()
    group: str = ""
    quiet: bool = False

    @property
    def color_name(self) -> str:
        """What its color stands for."""
        return self.group or self.name


@dataclass(frozen=True)
class LinePlot:
    """A line plot.

    Args:
        title: for readers who cannot see it.
        x_title: of the x axis.
        y_title: of the y axis; values of a title that ends with `, %` are shown as percents.
        level: a named horizontal line, such as chance.
        names: of the places 0, 1, 2, ... of the x axis.
        log: a logarithmic x axis.
        floor: a value that the y axis includes.
        bounds: the range of the y axis, however long the intervals are; by default, percents are
            from 0 to 100 and other values have none.
        steps: lines are stairs.
        dots: points without lines.
        groups: all groups in the order of their colors, where one legend serves several plots;
            the plot then has none of its own.
    """

    title: str
    x_title: str
    y_title: str
    level: tuple[str, float] | None = None
    names: Sequence[str] = ()
    log: bool = False
    floor: float | None = None
    bounds: Interval | None = None
    steps: bool = False
    dots: bool = False
    groups: Sequence[str] = ()

    def draw(self, series: Sequence[Series]) -> Markup:
        """The plot as SVG with its legend; nothing without points."""
        series = [thinned(line) for line in series if len(line.xs)]
        if not series:
            return Markup("")
        xs = [x for line in series for x in line.xs]
        x_axis = XAxis.over(xs, self.log, self.names)
        y_axis = YAxis.over(self._y_values(series), self._bounds())
        groups = list(self.groups or dict.fromkeys(line.color_name for line in series))
        parts = [y_axis.svg(), x_axis.svg(xs)]
        if self.level:
            y = y_axis.px(self.level[1])
            parts.append(line_svg("level", LEFT, WIDTH - RIGHT, y, y))
        for line in series:
            parts.append(self._line(line, groups.index(line.color_name), x_axis, y_axis))
        svg = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>')
        plot = svg.format(
            WIDTH, HEIGHT, self._description(series), Markup("").join(parts), self._titles()
        )
        quiet = [line.color_name for line in series if line.quiet]
        return plot + legend([] if self.groups else groups, self._level_text(), quiet)

    @property
    def is_percent(self) -> bool:
        """Whether the values of the y axis are percents."""
        return self.y_title.endswith(", %")

    def value_text(self, value: float) -> str:
        """A value of the y axis."""
        return f"{value:.1f} %" if self.is_percent else number_text(value)

    def _bounds(self) -> Interval:
        return self.bounds or ((0.0, 100.0) if self.is_percent else UNBOUNDED)

    def _y_values(self, series: Sequence[Series]) -> list[float]:
        """All values that the y axis must cover."""
        values = [y for line in series for y in line.ys if math.isfinite(y)]
        values += [
            end for line in series for interval in line.intervals if interval for end in interval
        ]
        values += [self.level[1]] if self.level else []
        return values + ([] if self.floor is None else [self.floor])

    def _line(self, line: Series, number: int, x_axis: XAxis, y_axis: YAxis) -> Markup:
        """A series with its points and intervals.

        Args:
            line: the series.
            number: of its color.
            x_axis: the x axis.
            y_axis: the y axis.
        """
        points = [
            (x_axis.px(x), y_axis.px(y))
            for x, y in zip(line.xs, line.ys, strict=True)
            if math.isfinite(y)
        ]
        css_class = _color_class(number) + (" quiet" if line.quiet else "")
        parts = []
        if len(points) > 1 and not self.dots:
            path = Markup('<path class="{}" d="{}"/>')
            parts.append(path.format(css_class, _path(points, self.steps)))
        if self.dots or (len(points) <= MAX_MARKED_POINTS and not self.steps):
            circle = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2.4"/>')
            parts += [circle.format(css_class, x, y) for x, y in points]
        for (x, _), interval in zip(points, line.intervals, strict=False):
            if interval:
                low, high = y_axis.clipped(interval)
                parts.append(line_svg(css_class, x, x, y_axis.px(low), y_axis.px(high)))
                for end, shown in zip(interval, (low, high), strict=True):
                    if end != shown:
                        parts.append(beyond_svg(css_class, x, y_axis.px(shown), end > shown))
        group = Markup("<g><title>{}: {}</title>{}</g>")
        return group.format(line.name, self._line_text(line, y_axis), Markup("").join(parts))

    def _line_text(self, line: Series, y_axis: YAxis) -> str:
        """The last value of a line, and whether an interval is cut off."""
        beyond = any(
            interval != y_axis.clipped(interval) for interval in line.intervals if interval
        )
        text = self.value_text(line.ys[-1])
        return f"{text}; an interval goes beyond the axis" if beyond else text

    def _titles(self) -> Markup:
        x_middle, y_middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
        svg = Markup(
            '<text class="of" x="{}" y="{}" text-anchor="middle">{}</text><text class="of" '
            'transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>'
        )
        return svg.format(x_middle, HEIGHT - 4, self.x_title, y_middle, self.y_title)

    def _level_text(self) -> str:
        return f"{self.level[0]} ({self.value_text(self.level[1])})" if self.level else ""

    def _description(self, series: Sequence[Series]) -> str:
        """The plot in words: the first and the last value of each line."""
        texts = []
        for line in series[:DESCRIBED_SERIES]:
            first, last = self.value_text(line.ys[0]), self.value_text(line.ys[-1])
            texts.append(f"{line.name} {first}" + (f" to {last}" if len(line.ys) > 1 else ""))
        more = len(series) - DESCRIBED_SERIES
        text = "; ".join(texts) + (f" and {more} more" if more > 0 else "")
        level = f"; {self.level[0]} {self.value_text(self.level[1])}" if self.level else ""
        return f"{self.title}: {text}{level}"


def legend(groups: Sequence[str], level: str = "", quiet: Sequence[str] = ()) -> Markup:
    """The names beside their colors.

    Args:
        groups: the names; a single one is left out.
        level: the text of the horizontal line, if there is one.
        quiet: the names that are references.
    """
    item = Markup(
        '<li><svg class="key" viewBox="0 0 22 8" aria-hidden="true">'
        '<line class="{}" x1="1" x2="21" y1="4" y2="4"/></svg>{}</li>'
    )
    items = []
    if len(groups) > 1:
        for number, name in enumerate(groups):
            css_class = _color_class(number) + (" quiet" if name in quiet else "")
            items.append(item.format(css_class, name))
    if level:
        items.append(item.format("level", level))
    if not items:
        return Markup("")
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def thinned(line: Series, limit: int = MAX_POINTS) -> Series:
    """A series with no more points than a plot can show."""
    if len(line.xs) <= limit:
        return line
    rows = sorted({round(i * (len(line.xs) - 1) / (limit - 1)) for i in range(limit)})
    return replace(
        line,
        xs=[line.xs[i] for i in rows],
        ys=[line.ys[i] for i in rows],
        intervals=[line.intervals[i] for i in rows] if line.intervals else (),
    )


def _color_class(number: int) -> str:
    return f"c{number % COLORS}" + (" again" if number >= COLORS else "")


def _path(points: Sequence[tuple[float, float]], steps: bool) -> str:
    """The `d` of an SVG path through the points."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for x, y in points[1:]:
        path += f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}"
    return path
