# pyright: strict
"""Checks that the planned network has the layers that options name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transfer.errors import InvalidOption
from transfer.stage.base import PlannedStage


def check_layers(planned: PlannedStage[Any], option: str, layers: Sequence[str | None]) -> None:
    """Raise InvalidOption, with the nearest names, for a layer that the network lacks.

    Args:
        planned: the stage, which has an input `model`.
        option: the option to blame.
        layers: layer names; None is skipped.
    """
    backbone = planned.inputs["model"].stage.backbone_spec()
    for layer in layers:
        if layer is not None and backbone is not None:
            try:
                backbone.resolve_layer(layer)
            except ValueError as error:
                raise InvalidOption(option, str(error)) from error
