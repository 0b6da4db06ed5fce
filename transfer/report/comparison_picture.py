"""A picture of a comparison: the figure of each row, and the figures over the training time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transfer.comparison.figures import figure_bounds, figure_name, row_figure
from transfer.comparison.table import Comparison, Row, Section
from transfer.comparison.text_table import row_titles, section_title
from transfer.comparison.time_axis import TimeAxis
from transfer.numerics.confidence_intervals import MIN_SEEDS
from transfer.report.drawing import Circle, Drawing, Line, Text, text_width
from transfer.report.svg_axes import YAxis, number_text

COLORS = ("#0072b2", "#c44e00", "#008060", "#a8448a", "#8a6d00", "#3b76d6", "#b3261e", "#5b5f66")
TEXT, SOFT, GRID, WHITE = "#1a1d21", "#57606a", "#d3d8de", "#ffffff"
MARGIN, GAP = 24, 28
ROW, AXIS, TITLE = 22, 44, 19  # heights of a row, of an axis with its title, of a line of title
BASELINE = 56  # right of the plot over time, for the names of baselines
FIGURES_WIDTH, TIMES_WIDTH, TIMES_HEIGHT = 360, 340, 190
MAX_LABEL = 44  # characters of a row's name
SMALL = 11.0
MAX_ROWS = 60  # of a table; the number of the others is shown
KEY = (
    "Large dots: means over seeds. Lines: 95 % intervals, over three seeds or more, or of one seed "
    "over its test images; an arrow: it goes beyond the axis. Small dots: two seeds, too few for "
    "an interval. Dashed: random weights, the baseline."
)


@dataclass(frozen=True)
class RowMark:
    """How a row is drawn in both plots: its number is the same in both."""

    row: Row
    label: str
    color: str
    fill: str
    is_baseline: bool


def comparison_picture(comparison: Comparison) -> Drawing:
    """Draw every table of a comparison, one below another."""
    drawing = Drawing(0, MARGIN, "comparison of scores")
    for section in comparison.sections:
        _add_section(drawing, section)
    for line in textwrap.wrap(KEY, round((drawing.width - 2 * MARGIN) / 6.2)):
        drawing.shapes.append(Text(MARGIN, drawing.height, line, SOFT, size=SMALL))
        drawing.height += 15
    drawing.height += MARGIN / 2
    return drawing


def _add_section(drawing: Drawing, section: Section) -> None:
    """Draw a table below what is there: its title, the figures, and the figures over time."""
    hidden = len(section.rows) - MAX_ROWS
    section = replace(section, rows=section.rows[:MAX_ROWS])
    marks = _marks(section)
    labels = MARGIN + max(text_width(mark.label) for mark in marks) + 12
    texts = max(text_width(row_figure(mark.row)) for mark in marks) + 12
    right = labels + FIGURES_WIDTH + texts
    trained = bool(section.trained_rows)
    width = right + (GAP + 46 + TIMES_WIDTH + BASELINE if trained else 0) + MARGIN
    drawing.width = max(drawing.width, width, 640)
    for line in textwrap.wrap(section_title(section), round((width - 2 * MARGIN) / 7)):
        drawing.shapes.append(Text(MARGIN, drawing.height + 8, line, TEXT))
        drawing.height += TITLE
    top = drawing.height + 30
    axis = _figure_axis(section)
    bottom = top + ROW * len(marks)
    _add_figures(drawing, section, marks, axis, (labels, labels + FIGURES_WIDTH, top, bottom))
    if trained:
        left, end = right + GAP + 46, right + GAP + 46 + TIMES_WIDTH
        bottom = max(bottom, top + TIMES_HEIGHT)
        _add_times(drawing, section, marks, axis, (left, end, top, bottom))
    if hidden > 0:
        text = f"and {hidden} more in the table"
        drawing.shapes.append(Text(MARGIN, top + ROW * len(marks) + 16, text, SOFT, size=SMALL))
    drawing.height = bottom + AXIS + MARGIN


def _marks(section: Section) -> list[RowMark]:
    baselines, marks = section.baselines, []
    for number, (row, title) in enumerate(zip(section.rows, row_titles(section), strict=True)):
        is_baseline = row in baselines
        color = SOFT if is_baseline else COLORS[number % len(COLORS)]
        label = textwrap.shorten(f"{number + 1}  {title}", MAX_LABEL, placeholder=" ...")
        marks.append(RowMark(row, label, color, WHITE if is_baseline else color, is_baseline))
    return marks


def _figure_axis(section: Section) -> YAxis:
    """The axis of the figures, which both plots share."""
    values = [run.value for row in section.rows for run in row.runs]
    ends = [end for row in section.rows for end in row.figure.interval or ()]
    means = [row.figure.mean for row in section.rows]
    return YAxis.over([*means, *ends, *_few(section.rows)], figure_bounds(section.figure, values))


def _few(rows: Sequence[Row]) -> list[float]:
    """The figures of runs that are too few for an interval."""
    return [run.value for row in rows if 1 < len(row.runs) < MIN_SEEDS for run in row.runs]


def _add_figures(
    drawing: Drawing,
    section: Section,
    marks: list[RowMark],
    axis: YAxis,
    frame: tuple[float, float, float, float],
) -> None:
    """Draw a line for each row: its name, its figure with the interval, and the text of both.

    Args:
        drawing: to add to.
        section: the table.
        marks: of its rows.
        axis: of the figures.
        frame: left, right, top and bottom.
    """
    left, right, top, bottom = frame
    add = drawing.shapes.append

    def x(value: float) -> float:
        return left + (value - axis.low) / (axis.high - axis.low) * (right - left)

    for tick in axis.ticks:
        add(Line(x(tick), top, x(tick), bottom, GRID))
        add(Text(x(tick), bottom + 16, number_text(tick), SOFT, "middle", SMALL))
    add(Text((left + right) / 2, bottom + 34, f"{figure_name(section.figure)}, %", SOFT, "middle"))
    for mark in marks:
        if mark.is_baseline:
            place = x(mark.row.figure.mean)
            add(Line(place, top, place, bottom, SOFT, 1.2, 4))
    for number, mark in enumerate(marks):
        row, y = mark.row, top + ROW * (number + 0.5)
        add(Text(MARGIN, y + 4, mark.label, TEXT))
        if row.figure.interval:
            low, high = axis.clipped(row.figure.interval)
            add(Line(x(low), y, x(high), y, mark.color, 2.4))
            for end, shown, sign in ((0, low, "‹"), (1, high, "›")):
                if row.figure.interval[end] != shown:
                    add(Text(x(shown), y + 5, sign, mark.color, "middle", 17.0))
        for value in _few([row]):
            add(Circle(x(value), y, 1.2, mark.color, mark.color))
        add(Circle(x(row.figure.mean), y, 4, mark.color, mark.fill))
        add(Text(right + 12, y + 4, row_figure(row), TEXT))


def _add_times(
    drawing: Drawing,
    section: Section,
    marks: list[RowMark],
    axis: YAxis,
    frame: tuple[float, float, float, float],
) -> None:
    """Draw the figure of each trained row over its time; baselines are lines.

    Args:
        drawing: to add to.
        section: the table.
        marks: of its rows.
        axis: of the figures.
        frame: left, right, top and bottom.
    """
    left, right, top, bottom = frame
    add, times = drawing.shapes.append, TimeAxis.over([time for _, time in section.trained_rows])

    def y(value: float) -> float:
        return bottom - (value - axis.low) / (axis.high - axis.low) * (bottom - top)

    for tick in axis.ticks:
        add(Line(left, y(tick), right, y(tick), GRID))
        add(Text(left - 8, y(tick) + 4, number_text(tick), SOFT, "end", SMALL))
    free = left - 100.0
    for share, label in times.ticks():
        x = left + share * (right - left)
        if x - text_width(label, SMALL) / 2 > free:
            add(Line(x, bottom, x, bottom + 4, SOFT))
            add(Text(x, bottom + 16, label, SOFT, "middle", SMALL))
            free = x + text_width(label, SMALL) / 2 + 6
    add(Line(left, bottom, right, bottom, SOFT))
    add(Text(left - 40, top - 12, f"{figure_name(section.figure)}, %", SOFT))
    add(Text((left + right) / 2, bottom + 34, "training time of the network", SOFT, "middle"))
    seconds = {id(row): time for row, time in section.trained_rows}
    for number, mark in enumerate(marks, 1):
        place = y(mark.row.figure.mean)
        if mark.is_baseline:
            add(Line(left, place, right, place, SOFT, 1.2, 4))
            add(Text(right + 6, place + 4, f"{number} random", SOFT, size=SMALL))
        elif id(mark.row) in seconds:
            x = left + times.share(seconds[id(mark.row)]) * (right - left)
            if mark.row.figure.interval:
                low, high = axis.clipped(mark.row.figure.interval)
                add(Line(x, y(low), x, y(high), mark.color, 1.6))
            add(Circle(x, place, 4, mark.color, mark.fill))
            add(Text(x + 8, place - 5, str(number), mark.color, size=SMALL))
