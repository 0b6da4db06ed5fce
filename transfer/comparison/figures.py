"""Names and values of figures as text."""

from __future__ import annotations

from collections.abc import Iterable

from transfer.comparison.score_status import FinishedScore
from transfer.comparison.table import Row, Section

# Main figures that are of one layer of several, and what they are called.
LAYER_FIGURES = {"best": "chosen layer", "deepest": "deepest layer"}
CHANCE_ADJUSTED = ("ami", "ari")  # figures that are zero for chance, and negative below it


def percent(value: float) -> str:
    """`92.1 %`."""
    return f"{value:.1f} %"


def points(value: float) -> str:
    """A difference in percentage points: `+1.3`, `−0.4`."""
    return f"{value:+.1f}".replace("-", "−")


def row_figure(row: Row) -> str:
    """`92.1 ± 0.4 %` over seeds; `92.1 % [90.8, 93.4]` of one seed with its interval."""
    if row.figure.deviation is not None:
        return f"{row.figure.mean:.1f} ± {percent(row.figure.deviation)}"
    return " ".join([percent(row.figure.mean), *row_interval(row)])


def row_interval(row: Row) -> list[str]:
    """`[90.8, 93.4]`; empty where the row has no interval."""
    interval = row.figure.interval
    return [f"[{interval[0]:.1f}, {interval[1]:.1f}]"] if interval else []


def figure_name(figure: str, layers: Iterable[str | None] = ()) -> str:
    """The name of a figure in a table: `chosen layer (conv4)` for the best layer of a probe.

    Args:
        figure: the name that the scores give it.
        layers: the selected layer of each run.
    """
    if figure not in LAYER_FIGURES:
        return figure
    names = ", ".join(sorted({layer for layer in layers if layer}))
    return LAYER_FIGURES[figure] + (f" ({names})" if names else "")


def figure_bounds(figure: str, values: Iterable[float] = ()) -> tuple[float, float]:
    """The range that an axis of a figure in percent may cover: 0 to 100, or what its values need.

    Args:
        figure: the name that the scores give it.
        values: of the figure; a plug-in may measure what is no share of 100.
    """
    lowest = -100.0 if figure in CHANCE_ADJUSTED else 0.0
    return min([lowest, *values]), max([100.0, *values])


def row_figure_name(section: Section, row: Row) -> str:
    """The name of the main figure of a row, with the layers that its runs selected."""
    return figure_name(section.figure, [run.selected_layer for run in row.runs])


def selection_note(score: FinishedScore) -> str:
    """On which images a protocol chose the layer; empty where it chose none."""
    if score.main != "best" or len(score.figures) <= 2 or score.selected_layer is None:
        return ""
    held_out = score.card.counts.get("selection", 0)
    if held_out:
        return f"the layer is chosen on {held_out:,} held-out images of the training split"
    return "the layer is chosen on the test split, as published"
