"""What a plan shows of features before there are any: their space, their images and how many these are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transfer.errors import InvalidOption
from transfer.pipeline.plan import source_pack
from transfer.training.inference import pool_features
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from transfer.pipeline.plan import PlannedStage


def planned_space(features: PlannedStage) -> Any:
    """What the space of planned features depends on, read off the plan."""
    if "like" in features.inputs:
        return planned_space(features.inputs["like"])
    if not features.inputs and hasattr(
        features.stage, "planned_space"
    ):  # of features that no network makes
        return features.stage.planned_space(features)
    if "model" not in features.inputs:
        return features.key
    model, stage = features.inputs["model"], features.stage
    layer, backbone = getattr(stage, "layer", None), getattr(model.stage, "backbone", None)
    if backbone is not None:
        layer = backbone.resolve_layer(
            layer or backbone.default_layer()
        )  # an alias means the same layer
    return model.key, layer, getattr(stage, "pool", None), getattr(stage, "pooling", None)


def check_same_space(option: str, features: PlannedStage, clusters: PlannedStage) -> None:
    """BadOption for features that are not of the kind that the clusters have centroids of."""
    theirs = clusters.inputs.get("features")
    if theirs is not None and planned_space(features) != planned_space(theirs):
        raise InvalidOption(
            option,
            f"'{features.name}' are not features of the kind that '{clusters.name}' has centroids of "
            f"('{theirs.name}'): take the same network, layer and pooling, and prepare them with `like`",
        )


def planned_count(features: PlannedStage) -> int | None:
    """How many images planned features are of; None where the plan does not show it."""
    return getattr(getattr(source_pack(features), "stage", None), "count", None)


def planned_width(features: PlannedStage) -> int | None:
    """How many values planned features have; None where the plan does not show it. Imports torch."""
    if hasattr(features.stage, "planned_width"):
        return features.stage.planned_width(features)
    model, stage = features.inputs.get("model"), features.stage
    if not (model and hasattr(stage, "pool") and hasattr(model.stage, "backbone")):
        return None
    backbone, size = model.stage.backbone, getattr(model.stage, "size", None)
    size = size or next((pack.stage.size for pack in model.images.values()), None)
    try:
        size = size or model.stage.preprocessing()[0]  # of networks that were trained elsewhere
        shape = backbone.shapes(size)[
            backbone.resolve_layer(stage.layer or backbone.default_layer())
        ]
    except (
        Exception
    ):  # of many kinds, timm's among them: what is wrong with the network its own stage tells
        return None
    return pool_features(torch.empty((1, *shape), device="meta"), stage.pool, stage.pooling).shape[
        1
    ]


def check_each_once(option: str, named: Sequence[PlannedStage]) -> None:
    """BadOption where a list names a stage twice."""
    names = [one.name for one in named]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidOption(option, f"names '{twice}' twice")


def check_side_by_side(option: str, features: Sequence[PlannedStage]) -> None:
    """BadOption where features are named twice, or are of different images."""
    check_each_once(option, features)
    known = [(one, pack) for one in features if (pack := source_pack(one)) is not None]
    for one, pack in known[1:]:
        first, its = known[0]
        if planned_count(first) != planned_count(one) or not its.stage.shares_ids(pack.stage):
            told = f"'{first.name}' and '{one.name}' are of different images, and cannot stand side by side"
            raise InvalidOption(option, told)
