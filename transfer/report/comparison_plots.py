"""Plots of a table of the comparison: its intervals, and its figures over the training time."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from transfer.comparison.figures import figure_bounds, figure_name, row_figure
from transfer.comparison.lineage import RANDOM, SUPERVISED
from transfer.comparison.table import Row, Section
from transfer.numerics.confidence_intervals import MIN_SEEDS
from transfer.report.svg_axes import YAxis
from transfer.report.svg_plots import LinePlot, Series

MAX_ROWS = 60  # of a plot of intervals
TICKS = 5
LEAST_TRAINED = 3  # rows of a plot over time


@dataclass(frozen=True)
class IntervalRow:
    """A row of the plot, its places in percent of the plot's width."""

    label: str
    text: str
    place: float
    interval: tuple[float, float] | None  # as far as the axis goes
    beyond: list[tuple[str, float]]  # marks where the interval goes on beyond the axis
    values: list[float]  # of single seeds that are too few for an interval
    anchor: str
    is_reference: bool  # of random weights or of supervised training


@dataclass(frozen=True)
class IntervalPlot:
    """The rows of a table with their intervals; `ticks` are texts with their places."""

    rows: list[IntervalRow]
    ticks: list[tuple[str, float]]
    hidden: int  # rows that are only in the table


def is_reference(row: Row, uses: str) -> bool:
    """Whether a row is of a network made by this method, or of a student of one."""
    return row.lineage.is_pretext(uses) or row.lineage.distilled_from(uses)


def interval_plot(section: Section, titles: list[str]) -> IntervalPlot:
    """The figures of a table with their intervals."""
    rows = section.rows[:MAX_ROWS]
    values = [value for row in rows for value in (*_seed_values(row), row.figure.mean)]
    ends = [end for row in rows for end in row.figure.interval or ()]
    axis = YAxis.over(values + ends, figure_bounds(section.figure, values), TICKS)

    def place(value: float) -> float:
        return round(100 * (value - axis.low) / (axis.high - axis.low), 2)

    plotted = []
    for title, row in zip(titles[:MAX_ROWS], rows, strict=True):
        interval, beyond = row.figure.interval, []
        if interval:
            low, high = axis.clipped(interval)
            beyond = [("‹", 0.0)] if low > interval[0] else []
            beyond += [("›", 100.0)] if high < interval[1] else []
            interval = place(low), place(high)
        plotted.append(
            IntervalRow(
                title,
                row_figure(row).partition(" [")[0],
                place(row.figure.mean),
                interval,
                beyond,
                [place(value) for value in _seed_values(row)],
                f"made-{row.runs[0].planned.key}",
                is_reference(row, RANDOM) or is_reference(row, SUPERVISED),
            )
        )
    labels = [(f"{tick:g} %", place(tick)) for tick in axis.ticks]
    return IntervalPlot(plotted, labels, len(section.rows) - len(rows))


def _seed_values(row: Row) -> list[float]:
    """The figures of several seeds that are too few for an interval."""
    return [run.value for run in row.runs] if 1 < len(row.runs) < MIN_SEEDS else []


def time_plot(section: Section) -> Markup:
    """The figure of each row over the minutes of training, a color for each method."""
    groups: dict[str, list[tuple[Row, float]]] = {}
    for row, seconds in section.trained_rows:
        groups.setdefault(_method(row), []).append((row, seconds))
    if len(section.trained_rows) < LEAST_TRAINED:
        return Markup("")
    series = []
    for name, trained in groups.items():
        trained = sorted(trained, key=lambda pair: pair[1])
        series.append(
            Series(
                name,
                [seconds / 60 for _, seconds in trained],
                [row.figure.mean for row, _ in trained],
                [row.figure.interval for row, _ in trained],
                group=name,
            )
        )
    # With several networks no single line is the figure of random weights.
    random = [row.figure.mean for row in section.rows if is_reference(row, RANDOM)]
    figure = figure_name(section.figure)
    plot = LinePlot(
        f"{figure} over training time",
        "minutes of training of the evaluated network",
        f"{figure}, %",
        level=("random weights", random[0]) if len(random) == 1 else None,
        bounds=figure_bounds(section.figure, [row.figure.mean for row in section.rows]),
        log=True,
        dots=True,
    )
    return plot.draw(series)


def _method(row: Row) -> str:
    """The method that made the evaluated artifact, without its family."""
    planned = row.lineage.evaluated_stage
    if planned is None:
        return ""
    return planned.uses.partition("/")[2] or planned.uses
