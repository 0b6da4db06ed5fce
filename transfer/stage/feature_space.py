# pyright: strict
"""Facts about planned features, before they exist: their space, width and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transfer.errors import InvalidOption
from transfer.stage.base import PlannedStage
from transfer.stage.upstream import source_pack


def planned_space(features: PlannedStage[Any]) -> Any:
    """Return a value that is equal for planned features that can be compared."""
    return features.stage.output_space(features)


def planned_width(features: PlannedStage[Any]) -> int | None:
    """Return the values per row of planned features; None if unknown. Imports torch."""
    return features.stage.output_width(features)


def planned_count(features: PlannedStage[Any]) -> int | None:
    """Return the rows of planned features, one per image; None if unknown."""
    pack = source_pack(features)
    return pack.stage.count if pack is not None else None


def check_same_space(option: str, features: PlannedStage[Any], clusters: PlannedStage[Any]) -> None:
    """Raise InvalidOption if features are of another space than the centroids of clusters.

    Args:
        option: the option to blame.
        features: the stage that makes the features.
        clusters: the stage that makes the clusters.
    """
    clustered = clusters.inputs.get("features")
    if clustered is not None and planned_space(features) != planned_space(clustered):
        raise InvalidOption(
            option,
            f"'{features.name}' and the centroids of '{clusters.name}' (of '{clustered.name}') "
            "differ in network, layer, pooling or preparation; make them equal, with `like` for a "
            "preparation",
        )


def check_each_once(option: str, stages: Sequence[PlannedStage[Any]]) -> None:
    """Raise InvalidOption if a list names a stage twice."""
    names = [planned.name for planned in stages]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidOption(option, f"names '{twice}' twice")


def check_side_by_side(option: str, features: Sequence[PlannedStage[Any]]) -> None:
    """Raise InvalidOption if features are repeated, or of different images."""
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
