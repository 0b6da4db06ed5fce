"""The space of features: those of one space can be compared, and clusters of them be assigned to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer.pipeline import Planned


def space_of(features: Planned) -> Any:
    """What the space of planned features depends on, read off the plan."""
    if "like" in features.inputs:
        return space_of(features.inputs["like"])
    if "model" not in features.inputs:
        return features.key
    model, stage = features.inputs["model"], features.stage
    layer, backbone = getattr(stage, "layer", None), getattr(model.stage, "backbone", None)
    if backbone is not None:
        layer = backbone.resolve_layer(layer or backbone.default_layer())  # an alias means the same layer
    return model.key, layer, getattr(stage, "pool", None), getattr(stage, "pooling", None)
