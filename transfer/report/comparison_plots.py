"""Plots of a table of the comparison: its intervals, and its figures over the training time."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from transfer.comparison.compare import RANDOM, SUPERVISED
from transfer.comparison.figures import figure_name, percent
from transfer.comparison.table import Row, Section
from transfer.report.svg_axes import round_ticks
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
    low: float | None  # None without an interval
    high: float | None
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
    lows = [row.figure.low if row.has_interval else row.figure.mean for row in rows]
    highs = [row.figure.high if row.has_interval else row.figure.mean for row in rows]
    ticks = round_ticks(min(lows), max(highs), TICKS)

    def place(value: float) -> float:
        return round(100 * (value - ticks[0]) / (ticks[-1] - ticks[0]), 2)

    plotted = []
    for title, row in zip(titles[:MAX_ROWS], rows, strict=True):
        text = percent(row.figure.mean)
        if row.figure.deviation:
            text = f"{row.figure.mean:.1f} ± {percent(row.figure.deviation)}"
        low = place(row.figure.low) if row.has_interval else None
        high = place(row.figure.high) if row.has_interval else None
        plotted.append(
            IntervalRow(
                title,
                text,
                place(row.figure.mean),
                low,
                high,
                f"made-{row.runs[0].planned.key}",
                is_reference(row, RANDOM) or is_reference(row, SUPERVISED),
            )
        )
    labels = [(f"{tick:g} %", place(tick)) for tick in ticks]
    return IntervalPlot(plotted, labels, len(section.rows) - len(rows))


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
                [
                    (row.figure.low, row.figure.high) if row.has_interval else None
                    for row, _ in trained
                ],
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
