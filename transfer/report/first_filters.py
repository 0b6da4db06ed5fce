"""The first filters of networks, before and after training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.artifacts import Model
from transfer.models import Timm
from transfer.models.backbone import Backbone
from transfer.models.build import build_network
from transfer.report.collect import FinishedStage, ReportData
from transfer.report.image_sheets import EncodedImage, encode_image, filter_sheet
from transfer.report.members import (
    HiddenMembers,
    group_by_name,
    hidden_members,
    sample_members,
    short_labels,
)
from transfer.stage.context import derived_seed

if TYPE_CHECKING:
    from torch import Tensor

MAX_FILTERS = 64  # of a network


@dataclass(frozen=True)
class FirstLayer:
    """The name and the weights (N, C, h, w) of a network's first convolution."""

    name: str
    weight: Tensor


@dataclass(frozen=True)
class FilterPair:
    """The first filters of a network, before training where they are known, and after it."""

    stage: FinishedStage
    shape: tuple[int, ...]
    shown: int  # filters
    is_trained: bool
    after: EncodedImage
    before: EncodedImage | None = None
    change: float | None = None  # the length of the change, in percent of the initial length


@dataclass(frozen=True)
class FilterGroup:
    """The filters of the members of a stage."""

    name: str
    pairs: list[FilterPair]
    hidden: HiddenMembers | None


Initial = dict[tuple[Backbone, int], FirstLayer | None]


def first_filters(report: ReportData) -> list[FilterGroup]:
    """For each stage that makes a network, the filters of a sample of its members."""
    groups, initial = [], {}
    for name, members in group_by_name(report.finished(Model)).items():
        shown, others = sample_members(members)
        labels = short_labels([stage.planned for stage in shown])
        pairs = []
        for stage, label in zip(shown, labels, strict=True):
            with report.reading(stage):
                pair = _filter_pair(stage, label, initial)
                if pair is not None:
                    pairs.append(pair)
        if pairs:
            groups.append(FilterGroup(name, pairs, hidden_members(report, others)))
    return groups


def _filter_pair(stage: FinishedStage, label: str, initial: Initial) -> FilterPair | None:
    """The filters of a network; None where its first layer is no convolution of an image.

    Args:
        stage: that made the network.
        label: of the network.
        initial: first layers that were initialized already.
    """
    start = _initial_layer(stage, initial)
    weight = _final_weight(stage, start.name if start else None)
    if weight is None:
        return None
    is_trained = bool(stage.checked(Model, "history.json").history)
    alt = f"first filters of {label}" + (" after training" if is_trained else "")
    after = encode_image(filter_sheet(weight, limit=MAX_FILTERS), alt, lossless=True)
    before = change = None
    if is_trained and start is not None and start.weight.shape == weight.shape:
        first = start.weight.float()
        alt = f"first filters of {label} before training"
        before = encode_image(filter_sheet(first, limit=MAX_FILTERS), alt, lossless=True)
        change = 100.0 * float((weight.float() - first).norm() / first.norm().clamp(min=1e-12))
    shown = min(MAX_FILTERS, len(weight))
    return FilterPair(stage, tuple(weight.shape), shown, is_trained, after, before, change)


def _initial_layer(stage: FinishedStage, initial: Initial) -> FirstLayer | None:
    """The first convolution as the stage's seed initializes it; None for published weights."""
    backbone = stage.planned.stage.backbone_spec()
    if backbone is None or isinstance(backbone, Timm):
        return None
    if stage.planned.stage.starts_from_weights():
        return None
    seed = derived_seed(stage.planned.seed, "weights")  # as every training stage derives it
    key = (backbone, seed)
    if key not in initial:
        state = build_network(backbone, seed).state_dict()
        layers = (FirstLayer(name, value) for name, value in state.items() if _sees_images(value))
        initial[key] = next(layers, None)
    return initial[key]


def _final_weight(stage: FinishedStage, name: str | None) -> Tensor | None:
    """The weights of the layer after training, the first convolution if `name` is None."""
    from safetensors import safe_open

    folder = stage.checked(Model, "model.safetensors", "model.json").folder
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = list(file.keys())
        if name is None:
            shapes = {key: file.get_slice(key).get_shape() for key in names}
            name = next((key for key, shape in shapes.items() if len(shape) == 4), None)
        if name not in names:
            return None
        weight = file.get_tensor(name)
    return weight if _sees_images(weight) else None


def _sees_images(weight: Tensor) -> bool:
    """Whether it is the weight of a convolution over one or three channels."""
    return weight.ndim == 4 and weight.shape[1] in (1, 3) and min(weight.shape[-2:]) > 1
