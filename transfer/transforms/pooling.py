"""Pooling of a layer's maps to a grid of features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import F

if TYPE_CHECKING:
    from torch import Tensor


def pool_features(activations: Tensor, side: int, how: str) -> Tensor:
    """(B, C, H, W) to (B, C * side * side) float32, by maximum or mean over a side x side grid; flat ones stay flat."""
    if activations.ndim == 4 and max(activations.shape[-2:]) > side:
        if how == "max":
            activations = F.adaptive_max_pool2d(activations, side)
        else:
            activations = F.adaptive_avg_pool2d(activations.float(), side)
    return activations.flatten(1).float()
