"""A network of timm as a chain of two layers."""

from __future__ import annotations

import math

from torch import Tensor, nn


class TimmFeatures(nn.Module):
    """The whole network up to its pooling, with all of its weights."""

    def __init__(self, model: nn.Module, name: str):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) to whatever the network's own head takes."""
        try:
            found = self.model.forward_features(x)
        except (
            AssertionError,
            RuntimeError,
        ) as error:  # networks that take images of one size only
            if isinstance(error, RuntimeError) and not x.is_meta:
                raise
            raise ValueError(
                f"{self.name} does not take images of {x.shape[-1]} px: {error}"
            ) from error
        if not isinstance(found, Tensor):
            raise ValueError(
                f"{self.name} gives {type(found).__name__}, not one tensor: it cannot be a backbone here"
            )
        return found

    def as_feature_map(self, found: Tensor) -> Tensor:
        """What `forward` gives as a map (N, C, H, W): channels first, tokens where they lie, class tokens left out."""
        if found.ndim == 4:
            return (
                found.movedim(-1, 1) if getattr(self.model, "output_fmt", "") == "NHWC" else found
            )
        if found.ndim != 3:
            return found
        for prefix in (getattr(self.model, "num_prefix_tokens", 0), 1):
            side = math.isqrt(found.shape[1] - prefix)
            if side**2 == found.shape[1] - prefix:
                return found[:, prefix:].transpose(1, 2).unflatten(2, (side, side))
        return found


class TimmEmbedding(nn.Module):
    """What follows, up to the classifier; its weights, if any, are those of `features`."""

    def __init__(self, features: TimmFeatures):
        super().__init__()
        self._features = (features,)  # no child: its weights would be there twice

    def forward(self, x: Tensor) -> Tensor:
        """What `features` gives to (N, D)."""
        return self._features[0].model.forward_head(x, pre_logits=True).flatten(1)
