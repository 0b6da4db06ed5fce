"""Plots of the sizes of clusters."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from transfer.artifacts import Clusters
from transfer.report.collect import FinishedStage, ReportData
from transfer.report.members import (
    HiddenMembers,
    group_by_name,
    hidden_members,
    sample_members,
    short_labels,
)
from transfer.report.svg_plots import LinePlot, Series
from transfer.utils.lazy_imports import np

MAX_LINES = 8  # of a plot


@dataclass(frozen=True)
class SizePlot:
    """The sizes of the clusters of a stage, a line for each member."""

    name: str
    members: list[FinishedStage]
    plot: Markup
    hidden: HiddenMembers | None


def size_plots(report: ReportData) -> list[SizePlot]:
    """For each clustering stage, the sizes of its clusters in descending order."""
    plots = []
    for name, members in group_by_name(report.finished(Clusters)).items():
        shown, others = sample_members(members, MAX_LINES)
        labels = short_labels([stage.planned for stage in shown])
        series, means = [], set()
        for stage, label in zip(shown, labels, strict=True):
            with report.reading(stage):
                sizes = np.sort(stage.checked(Clusters, "clusters.h5").sizes)[::-1]
                ranks = np.arange(1, len(sizes) + 1)
                series.append(Series(label, ranks.tolist(), sizes.tolist()))
                means.add(round(float(sizes.mean()), 6))
        plot = LinePlot(
            f"sizes of the clusters of {name}",
            "rank of the cluster by size",
            "images",
            level=("clusters of equal size", means.pop()) if len(means) == 1 else None,
            floor=0.0,
            steps=True,
        ).draw(series)
        if plot:
            plots.append(SizePlot(name, shown, plot, hidden_members(report, others)))
    return plots
