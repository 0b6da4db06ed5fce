"""What a plan shows of features before there are any: their space and their number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer.plan import Planned


def space_of(features: Planned) -> Any:
    """What the space of planned features depends on, read off the plan."""
    if "like" in features.inputs:
        return space_of(features.inputs["like"])
    if not features.inputs and hasattr(features.stage, "planned_space"):  # of features that no network makes
        return features.stage.planned_space(features)
    if "model" not in features.inputs:
        return features.key
    model, stage = features.inputs["model"], features.stage
    layer, backbone = getattr(stage, "layer", None), getattr(model.stage, "backbone", None)
    if backbone is not None:
        layer = backbone.resolve_layer(layer or backbone.default_layer())  # an alias means the same layer
    return model.key, layer, getattr(stage, "pool", None), getattr(stage, "pooling", None)


def count_of(features: Planned) -> int | None:
    """How many images planned features are of; None where the plan does not show it."""
    while not features.images:
        if not features.inputs:
            return None
        features = next(iter(features.inputs.values()))
    return getattr(next(iter(features.images.values())).stage, "count", None)
