"""Layers that an option names, checked against the network that is planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transfer.errors import InvalidOption

if TYPE_CHECKING:
    from transfer.pipeline.plan import PlannedStage


def check_layers(planned: PlannedStage, option: str, layers: Sequence[str | None]) -> None:
    """BadOption, with the nearest names, for a layer that the stage behind `model` does not have."""
    backbone = getattr(planned.inputs["model"].stage, "backbone", None)
    for layer in layers:
        if layer is not None and backbone is not None:
            try:
                backbone.resolve_layer(layer)
            except ValueError as error:
                raise InvalidOption(option, str(error)) from error
