"""Training curves, and previews of the images that a network is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from transfer.artifacts import Model
from transfer.report.collect import FinishedStage, ReportData
from transfer.report.image_sheets import (
    EncodedImage,
    encode_image,
    image_batch,
    sheet,
    stretched_tiles,
    tile,
)
from transfer.report.members import (
    HiddenMembers,
    even_rows,
    group_by_name,
    hidden_members,
    sample_members,
    short_labels,
)
from transfer.report.svg_plots import LinePlot, Series, legend
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import torch

MAX_CURVES = 40  # lines of a plot
BOUNDED = {"nmi": (0.0, 1.0)}  # figures besides accuracies that have bounds
PREVIEW_IMAGES, PREVIEW_SIDE = 4, 88  # images of a preview, and their px

History = list[dict[str, float]]


@dataclass(frozen=True)
class TrainingCurves:
    """The plots of a training stage, a line for each member."""

    name: str
    members: list[FinishedStage]
    plots: list[Markup]
    legend: Markup
    hidden: HiddenMembers | None


@dataclass(frozen=True)
class Preview:
    """Images on their way into a network, a column for each step."""

    name: str
    stage: FinishedStage
    image_set: str
    columns: list[tuple[str, EncodedImage]]
    members: int
    error: str  # why there is no preview; empty otherwise


def is_accuracy(figure: str) -> bool:
    """Whether a training figure is an accuracy: recorded from 0 to 1, shown in percent."""
    return figure == "accuracy" or figure.endswith(" accuracy")


def training_curves(report: ReportData) -> list[TrainingCurves]:
    """For each training stage, a plot of each figure that it recorded after every epoch."""
    curves = []
    for name, members in group_by_name(report.finished(Model)).items():
        shown, others = sample_members(members, MAX_CURVES)
        histories: dict[FinishedStage, History] = {}
        for stage in shown:
            with report.reading(stage):
                history = stage.checked(Model, "history.json").history
                if history:
                    histories[stage] = history
        if not histories:
            continue
        groups = short_labels([stage.planned for stage in histories], excluded=("seed",))
        plots = [
            _curve_plot(report, name, figure, histories, groups)
            for figure in _figures(histories.values())
        ]
        key = legend(list(dict.fromkeys(groups)))
        hidden = hidden_members(report, others)
        curves.append(TrainingCurves(name, list(histories), plots, key, hidden))
    return curves


def _curve_plot(
    report: ReportData,
    name: str,
    figure: str,
    histories: dict[FinishedStage, History],
    groups: Sequence[str],
) -> Markup:
    """The plot of a figure over the epochs.

    Args:
        report: all stages.
        name: of the training stage.
        figure: the figure.
        histories: member -> its epochs.
        groups: the color of each member: its variables without the seed.
    """
    scale = 100.0 if is_accuracy(figure) else 1.0
    labels = short_labels([stage.planned for stage in histories])
    series = []
    for label, group, history in zip(labels, groups, histories.values(), strict=True):
        entries = [entry for entry in history if figure in entry]
        epochs = [entry["epoch"] for entry in entries]
        values = [scale * entry[figure] for entry in entries]
        series.append(Series(label, epochs, values, group=group))
    chances = {report.chance(stage) for stage in histories} if figure == "accuracy" else set()
    chance = chances.pop() if len(chances) == 1 else None
    plot = LinePlot(
        f"{figure} of {name}",
        "epoch",
        f"{figure}, %" if is_accuracy(figure) else figure,
        level=None if chance is None else ("chance", scale * chance),
        floor=0.0 if is_accuracy(figure) else None,
        bounds=BOUNDED.get(figure),
        groups=list(dict.fromkeys(groups)),
    )
    return plot.draw(series)


def _figures(histories: Iterable[History]) -> list[str]:
    """The names of all figures, loss and accuracy first."""
    entries = [entry for history in histories for entry in history]
    names = dict.fromkeys(name for entry in entries for name in entry if name != "epoch")
    return sorted(names, key=lambda name: (name != "loss", name != "accuracy"))


def previews(report: ReportData) -> list[Preview]:
    """For each method that trains on images, what the network sees of a few of them."""
    stages = []
    for name, members in _by_method(report).items():
        stage = members[0]
        pack = report.images_of(stage.planned)
        if pack is None or not stage.planned.stage.has_preview():
            continue
        with report.reading(pack):
            columns, error = _preview_columns(report, name, stage, pack)
            stages.append(Preview(name, stage, pack.label, columns, len(members), error))
    return stages


def _preview_columns(
    report: ReportData, name: str, stage: FinishedStage, pack: FinishedStage
) -> tuple[list[tuple[str, EncodedImage]], str]:
    """The columns of a preview, and why there are none.

    Args:
        report: all stages.
        name: of the method.
        stage: whose preview is drawn.
        pack: its images.
    """
    images = report.open_images(pack)
    rows = even_rows(len(images), PREVIEW_IMAGES)
    batch = image_batch([tile(images, row, images.size) for row in rows])
    rng = PerImageRng(stage.planned.seed, torch.tensor(rows))
    columns = []
    try:
        with torch.inference_mode():
            steps = stage.planned.stage.preview(batch, rng)
        for caption, step in steps.items():
            picture = sheet(stretched_tiles(step, PREVIEW_SIDE), 1)
            alt = f"{len(step)} training images of {name}: {caption}"
            columns.append((caption, encode_image(picture, alt)))
    except Exception as error:  # a plug-in's preview must not prevent the report
        return columns, f"{type(error).__name__}: {error}"
    return columns, ""


def _by_method(report: ReportData) -> dict[str, list[FinishedStage]]:
    """Stage name -> its members; with the method in the name where a stage has several."""
    groups = {}
    for name, members in group_by_name(report.finished(Model)).items():
        methods = dict.fromkeys(stage.planned.uses for stage in members)
        for method in methods:
            label = name if len(methods) == 1 else f"{name} ({method})"
            groups[label] = [stage for stage in members if stage.planned.uses == method]
    return groups
