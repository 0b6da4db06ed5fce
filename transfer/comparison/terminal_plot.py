"""A plot in the terminal: the figure of each row over the training time of its network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from string import ascii_letters

from transfer.comparison.figures import figure_name, percent
from transfer.comparison.table import Comparison, Row, Section
from transfer.comparison.text_table import row_titles
from transfer.utils.formatting import duration

WIDTH, HEIGHT = 64, 14  # characters
SEVERAL, UNLETTERED, UNTRAINED = "*", ".", "-"  # rows at one place, after z and Z, without time
LEAST_LOG_SECONDS, LEAST_PERCENT = 0.1, 0.5  # the smallest ranges of the axes
SECONDS, MINUTES, HOURS, DAYS = (1, 2, 5, 10, 30), (1, 2, 5, 10, 30), (1, 2, 5, 10), (1, 2, 7)
TICKS = (
    *SECONDS,
    *(60 * minutes for minutes in MINUTES),
    *(3600 * hours for hours in HOURS),
    *(86400 * days for days in DAYS),
)


@dataclass(frozen=True)
class Axis:
    """A linear axis of `length` characters."""

    low: float
    high: float
    length: int

    def place(self, value: float) -> int:
        """The character of a value, from 0."""
        return round((value - self.low) / (self.high - self.low) * (self.length - 1))

    def value(self, place: int) -> float:
        """The value at a character."""
        return self.low + (self.high - self.low) * place / (self.length - 1)


def time_plot(comparison: Comparison) -> str:
    """A plot with its legend for each table in which a network was trained."""
    lines = []
    for section in comparison.sections:
        if section.trained_rows:
            lines += ["", *_plot(section)]
    return "\n".join(lines or ["", "nothing to plot: the training time of no network is known"])


def _plot(section: Section) -> list[str]:
    trained = section.trained_rows
    times = _axis([math.log(seconds) for _, seconds in trained], LEAST_LOG_SECONDS, WIDTH)
    figures = _axis([row.figure.mean for row, _ in trained], LEAST_PERCENT, HEIGHT)
    letters = [
        ascii_letters[i] if i < len(ascii_letters) else UNLETTERED for i in range(len(trained))
    ]
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for letter, (row, seconds) in zip(letters, trained, strict=True):
        line = grid[HEIGHT - 1 - figures.place(row.figure.mean)]
        column = times.place(math.log(seconds))
        line[column] = letter if line[column] == " " else SEVERAL
    name = figure_name(section.figure)
    lines = [f"{name} over the training time of the evaluated network ({section.protocol})"]
    for number, line in enumerate(grid):
        value = percent(figures.value(HEIGHT - 1 - number))
        lines.append(f"{value:>8} |" + "".join(line).rstrip())
    lines += [" " * 9 + "+" + "-" * WIDTH, " " * 10 + _tick_line(times)]
    return lines + _legend(section, letters)


def _legend(section: Section, letters: list[str]) -> list[str]:
    """A line for each row: its letter, figure, training time and title."""
    titles = {id(row): text for row, text in zip(section.rows, row_titles(section), strict=True)}
    trained = section.trained_rows
    width = max(len(duration(seconds)) for _, seconds in trained)

    def line(letter: str, row: Row, time: str) -> str:
        return f"  {letter}  {percent(row.figure.mean):>7}  {time:>{width}}  {titles[id(row)]}"

    lines = [
        line(letter, row, duration(seconds))
        for letter, (row, seconds) in zip(letters, trained, strict=True)
    ]
    return lines + [line(UNTRAINED, row, "") for row in section.rows if not row.training_seconds]


def _axis(values: list[float], least: float, length: int) -> Axis:
    """An axis over the values, at least `least` long."""
    low, high = min(values), max(values)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    return Axis(low, high, length)


def _tick_line(times: Axis) -> str:
    """The labels below the axis; those that would overlap the one before are left out."""
    line = [" "] * (WIDTH + 8)
    free = 0
    for tick in TICKS:
        place, label = times.place(math.log(tick)), duration(tick).replace(".0", "")
        if free <= place < WIDTH:
            line[place : place + len(label)] = label
            free = place + len(label) + 2
    return "".join(line).rstrip()
