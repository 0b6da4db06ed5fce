"""A comparison in the terminal: each row's figure over the time that its network was trained, which says what a minute
of training buys."""

from __future__ import annotations

import math
from string import ascii_letters

from transfer.comparison.render import row_titles
from transfer.comparison.table import Comparison, Section
from transfer.utils.formatting import duration

WIDTH, HEIGHT = 64, 14
SEVERAL = "*"  # more than one row at a place
TICKS = (
    1,
    2,
    5,
    10,
    30,
    60,
    120,
    300,
    600,
    1800,
    3600,
    7200,
    18000,
    36000,
    86400,
    172800,
    604800,
)  # seconds


def time_plot(found: Comparison) -> str:
    """A plot and its legend for each table; nothing for those in which nothing was trained."""
    plots = [lines for section in found.sections if (lines := _plot(section))]
    lines = [line for lines in plots for line in ["", *lines]]
    return "\n".join(
        lines or ["", "nothing to plot: of none of these is it known how long it was trained"]
    )


def _plot(section: Section) -> list[str]:
    rows = section.timed
    if not rows:
        return []
    left, right = _ends([math.log(row.training) for row in rows], 0.1)
    low, high = _ends([row.figure.mean for row in rows], 0.5)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    letters = dict(
        zip(map(id, rows), ascii_letters, strict=False)
    )  # after z and Z, dots: best rows come first
    for row in rows:
        across = round((math.log(row.training) - left) / (right - left) * (WIDTH - 1))
        up = round((row.figure.mean - low) / (high - low) * (HEIGHT - 1))
        place = grid[HEIGHT - 1 - up]
        place[across] = letters.get(id(row), ".") if place[across] == " " else SEVERAL
    told = dict(zip(map(id, section.rows), row_titles(section), strict=True))
    lines = [
        f"{section.figure} over the time that the scored network was trained ({section.protocol})"
    ]
    for number, line in enumerate(grid):
        value = high - (high - low) * number / (HEIGHT - 1)
        lines.append(f"{value:6.1f} |" + "".join(line).rstrip())
    lines += [" " * 7 + "+" + "-" * WIDTH, " " * 8 + _ticks(left, right)]
    width = max(len(duration(row.training)) for row in rows)
    lines += [
        f"  {letters.get(id(row), '.')}  {row.figure.mean:5.1f}  {duration(row.training):>{width}}  {told[id(row)]}"
        for row in rows
    ]
    still = [row for row in section.rows if row not in rows]
    lines += [f"  -  {row.figure.mean:5.1f}  {'':>{width}}  {told[id(row)]}" for row in still]
    return lines


def _ends(values: list[float], least: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (
        (low, high) if high - low >= least else ((low + high - least) / 2, (low + high + least) / 2)
    )


def _ticks(left: float, right: float) -> str:
    line = [" "] * (WIDTH + 8)
    free = 0
    for tick in TICKS:
        place = round((math.log(tick) - left) / (right - left) * (WIDTH - 1))
        word = duration(tick).replace(".0", "")
        if free <= place < WIDTH:
            line[place : place + len(word)] = word
            free = place + len(word) + 2
    return "".join(line).rstrip()
