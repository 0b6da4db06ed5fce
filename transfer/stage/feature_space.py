"""What a plan shows of features before they exist: their space, width, and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transfer.errors import InvalidOption
from transfer.stage.base import PlannedStage, source_pack


def planned_space(features: PlannedStage[Any]) -> Any:
    """What planned features must agree in to be compared."""
    return features.stage.output_space(features)


def planned_width(features: PlannedStage[Any]) -> int | None:
    """Values of a row of planned features; None where the plan does not show it. Imports torch."""
    return features.stage.output_width(features)


def planned_count(features: PlannedStage[Any]) -> int | None:
    """Rows of planned features, one an image; None where the plan does not show it."""
    pack = source_pack(features)
    return pack.stage.count if pack is not None else None


def check_same_space(option: str, features: PlannedStage[Any], clusters: PlannedStage[Any]) -> None:
    """Raise InvalidOption for features of another space than the clusters' centroids."""
    clustered = clusters.inputs.get("features")
    if clustered is not None and planned_space(features) != planned_space(clustered):
        raise InvalidOption(
            option,
            f"'{features.name}' and the centroids of '{clusters.name}' (of '{clustered.name}') "
            "differ in network, layer, pooling or preparation; make them alike, with `like` for a "
            "preparation",
        )


def check_each_once(option: str, stages: Sequence[PlannedStage[Any]]) -> None:
    """Raise InvalidOption where a list names a stage twice."""
    names = [planned.name for planned in stages]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidOption(option, f"names '{twice}' twice")


def check_side_by_side(option: str, features: Sequence[PlannedStage[Any]]) -> None:
    """Raise InvalidOption where features cannot be joined row by row: other images, or a repeat."""
    check_each_once(option, features)
    sources = [(planned, source_pack(planned)) for planned in features]
    known = [(planned, pack) for planned, pack in sources if pack is not None]
    for planned, pack in known[1:]:
        first, first_pack = known[0]
        same_count = planned_count(first) == planned_count(planned)
        if not same_count or not first_pack.stage.shares_ids(pack.stage):
            raise InvalidOption(
                option,
                f"'{first.name}' and '{planned.name}' are of different images, so their rows "
                "cannot be joined",
            )
