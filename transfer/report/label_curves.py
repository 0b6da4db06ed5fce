"""Plots of training with labels: accuracy over epochs, and over the number of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from transfer.artifacts import Scores
from transfer.report.collect import FinishedStage, ReportData
from transfer.report.members import (
    HiddenMembers,
    group_by_name,
    hidden_members,
    sample_members,
    short_labels,
)
from transfer.report.svg_plots import Interval, LinePlot, Series
from transfer.storage.hdf5_tables import TableReader

if TYPE_CHECKING:
    import numpy

Y_TITLE = "test accuracy, %"


@dataclass(frozen=True)
class LabelCurves:
    """The plots of an evaluation stage."""

    name: str
    members: list[FinishedStage]
    plots: list[Markup]
    hidden: HiddenMembers | None


def label_curves(report: ReportData) -> list[LabelCurves]:
    """The plots of each evaluation stage that trained with labels."""
    curves = []
    for name, members in group_by_name(report.finished(Scores)).items():
        shown, others = sample_members(members)
        labels = short_labels([stage.planned for stage in shown])
        plots = []
        for stage, label in zip(shown, labels, strict=True):
            with report.reading(stage):
                scores = stage.checked(Scores, "scores.json", "scores.h5")
                plots += score_plots(scores, label if len(shown) > 1 else name)
        if plots:
            curves.append(LabelCurves(name, shown, plots, hidden_members(report, others)))
    return curves


def score_plots(scores: Scores, name: str) -> list[Markup]:
    """The plots of finished scores; none for a protocol without curves or label budgets."""
    plots = []
    if epochs := _epoch_series(scores):
        plot = LinePlot(f"test accuracy of {name} during training", "epoch", Y_TITLE)
        plots.append(plot.draw(epochs))
    budgets = _budget_series(scores)
    if any(len(series.xs) > 1 for series in budgets):
        plot = LinePlot(f"test accuracy of {name} by labels", "labels", Y_TITLE, log=True)
        plots.append(plot.draw(budgets))
    return plots


def _epoch_series(scores: Scores) -> list[Series]:
    """Figure -> its mean over the samples of labels, after each epoch."""
    series = []
    for figure in scores.figures:
        curve = _column(scores, f"curve.{figure}")
        if curve is not None and curve.ndim == 2 and curve.size:
            series.append(Series(figure, range(curve.shape[1]), curve.mean(0).tolist()))
    return series


def _budget_series(scores: Scores) -> list[Series]:
    """A line for each way to train, such as `finetuned`, over the number of labels."""
    intervals = scores.card.intervals
    points: dict[str, list[tuple[int, float, Interval | None]]] = {}
    for figure, value in scores.figures.items():
        way, _, budget = figure.rpartition(", ")
        count = scores.card.counts.get(f"train, {budget}")
        if way and count:
            ends = intervals.get(figure)
            interval = (ends[0], ends[1]) if ends else None
            points.setdefault(way, []).append((count, value, interval))
    series = []
    for way, budgets in points.items():
        budgets = sorted(budgets, key=lambda point: point[0])
        counts, values, spans = (list(column) for column in zip(*budgets, strict=True))
        series.append(Series(way, counts, values, spans))
    return series


def _column(scores: Scores, name: str) -> numpy.ndarray | None:
    table = TableReader(scores.folder / "scores.h5")
    return table.read(name) if name in table else None
