"""A plot in the terminal: the figure of each row over the training time of its network."""

from __future__ import annotations

import textwrap
from string import ascii_letters

from transfer.comparison.figures import figure_bounds, figure_name, percent
from transfer.comparison.table import Comparison, Row, Section
from transfer.comparison.text_table import row_titles
from transfer.comparison.time_axis import TimeAxis
from transfer.utils.formatting import duration

SCREEN = 80  # columns of a terminal
WIDTH, HEIGHT = 64, 15  # characters of the plot
LABELED = 2  # each second line has a number
LABELS = 10  # columns of the numbers to its left
SEVERAL, UNLETTERED, UNTIMED = "*", ".", " "  # rows at one place, after z and Z, without time
BASELINES = "-=~"  # lines at the figures of random weights
LEAST_PERCENT = 0.5  # the smallest range of the figures


def time_plot(comparison: Comparison) -> str:
    """A plot with its legend for each table in which a network was trained."""
    lines = []
    for section in comparison.sections:
        if section.trained_rows:
            lines += ["", *_plot(section)]
    return "\n".join(lines or ["", "nothing to plot: the training time of no network is known"])


def _plot(section: Section) -> list[str]:
    trained = section.trained_rows
    times = TimeAxis.over([seconds for _, seconds in trained])
    marks = _marks(section)
    low, high = _range(section, [row for row in section.rows if marks[id(row)] != UNTIMED])

    def line_of(value: float) -> int:
        return round((high - value) / (high - low) * (HEIGHT - 1))

    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for row in reversed(section.baselines):
        grid[line_of(row.figure.mean)] = [marks[id(row)]] * WIDTH
    taken = set()
    for row, seconds in trained:
        place = line_of(row.figure.mean), round(times.share(seconds) * (WIDTH - 1))
        grid[place[0]][place[1]] = SEVERAL if place in taken else marks[id(row)]
        taken.add(place)
    name = figure_name(section.figure)
    title = f"{name} over the training time of the evaluated network ({section.protocol})"
    lines = textwrap.wrap(title, SCREEN, subsequent_indent="  ")
    for number, line in enumerate(grid):
        value = high - (high - low) * number / (HEIGHT - 1)
        label = percent(value) if number % LABELED == 0 else ""
        lines.append(f"{label:>{LABELS - 2}} |" + "".join(line).rstrip())
    lines += [" " * (LABELS - 1) + "+" + "-" * WIDTH, " " * LABELS + _tick_line(times)]
    return lines + _legend(section, marks)


def _marks(section: Section) -> dict[int, str]:
    """The character of each row by its identity."""
    marks = {id(row): UNTIMED for row in section.rows}
    for i, (row, _) in enumerate(section.trained_rows):
        marks[id(row)] = ascii_letters[i] if i < len(ascii_letters) else UNLETTERED
    for i, row in enumerate(section.baselines):
        marks[id(row)] = BASELINES[i % len(BASELINES)]
    return marks


def _range(section: Section, rows: list[Row]) -> tuple[float, float]:
    """The ends of the figures' axis: at least LEAST_PERCENT apart, within the figure's bounds."""
    figures = [row.figure.mean for row in rows]
    low, high = min(figures), max(figures)
    if high - low < LEAST_PERCENT:
        low, high = (low + high - LEAST_PERCENT) / 2, (low + high + LEAST_PERCENT) / 2
    lowest, highest = figure_bounds(section.figure, figures)
    return max(low, lowest), min(high, highest)


def _legend(section: Section, marks: dict[int, str]) -> list[str]:
    """A line for each row: its character, figure, training time and title."""
    titles = {id(row): text for row, text in zip(section.rows, row_titles(section), strict=True)}
    times = {id(row): duration(seconds) for row, seconds in section.trained_rows}
    width = max(map(len, times.values()))
    trained = [row for row, _ in section.trained_rows]
    lines = []
    for row in [*trained, *(row for row in section.rows if id(row) not in times)]:
        title = titles[id(row)] + (" (baseline)" if row in section.baselines else "")
        time = f"{times.get(id(row), ''):>{width}}"
        head = f"  {marks[id(row)]}  {percent(row.figure.mean):>7}  {time}  "
        indent = " " * len(head)
        lines += textwrap.wrap(head + title, SCREEN, subsequent_indent=indent) or [head.rstrip()]
    return lines


def _tick_line(times: TimeAxis) -> str:
    """The labels below the axis; those that would overlap the one before are left out."""
    line = [" "] * (SCREEN - LABELS)
    free = 0
    for share, label in times.ticks():
        place = min(round(share * (WIDTH - 1)), len(line) - len(label))
        if free <= place:
            line[place : place + len(label)] = label
            free = place + len(label) + 2
    return "".join(line).rstrip()
