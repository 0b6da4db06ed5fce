"""Pooling of the feature maps of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import F

if TYPE_CHECKING:
    from torch import Tensor


def pool_features(activations: Tensor, side: int, how: str) -> Tensor:
    """Pool (B, C, H, W) to (B, C * side * side) float32.

    Maps of at most `side` px are only flattened.

    Args:
        activations: of a layer; (B, D) stay as they are.
        side: cells of the grid along each axis.
        how: `max` for the maximum of a cell, else its mean.
    """
    if activations.ndim == 4 and max(activations.shape[-2:]) > side:
        if how == "max":
            activations = F.adaptive_max_pool2d(activations, side)
        else:
            activations = F.adaptive_avg_pool2d(activations.float(), side)
    return activations.flatten(1).float()
