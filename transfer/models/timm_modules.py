"""A network of timm as a sequence of two layers."""

from __future__ import annotations

import math
from typing import Protocol, cast

from torch import Tensor, nn

from transfer.models.network import MapLayer


class TimmModel(Protocol):
    """The methods that timm's networks share."""

    def forward_features(self, x: Tensor) -> Tensor: ...

    def forward_head(self, x: Tensor, pre_logits: bool) -> Tensor: ...


class TimmFeatures(MapLayer):
    """The network up to its pooling, with all weights."""

    model: nn.Module

    def __init__(self, model: nn.Module, name: str):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, S, S) to the input of the network's own head."""
        try:
            out = cast("TimmModel", self.model).forward_features(x)
        except (AssertionError, RuntimeError) as error:  # of networks that take one size only
            if isinstance(error, RuntimeError) and not x.is_meta:
                raise
            raise ValueError(
                f"{self.name} does not take images of {x.shape[-1]} px: {error}"
            ) from error
        if not isinstance(out, Tensor):
            kind = type(out).__name__
            raise ValueError(
                f"{self.name} cannot be a backbone: its output is {kind}, not a tensor"
            )
        return out

    def as_feature_map(self, out: Tensor) -> Tensor:
        """Return the output of `forward` as a map (N, C, H, W) without class tokens.

        Channels come first; tokens are at the place of their patch. Other outputs stay as they are.
        """
        if out.ndim == 4:
            channels_last = getattr(self.model, "output_fmt", "") == "NHWC"
            return out.movedim(-1, 1) if channels_last else out
        if out.ndim != 3:
            return out
        for prefix in (getattr(self.model, "num_prefix_tokens", 0), 1):
            side = math.isqrt(out.shape[1] - prefix)
            if side**2 == out.shape[1] - prefix:
                return out[:, prefix:].transpose(1, 2).unflatten(2, (side, side))
        return out


class TimmEmbedding(nn.Module):
    """The pooling and the head up to the classifier; its weights, if any, are in `features`."""

    def __init__(self, features: TimmFeatures):
        super().__init__()
        self._features = (features,)  # as a child, its weights would be there twice

    def forward(self, x: Tensor) -> Tensor:
        """Map the output of `features` to (N, D)."""
        model = cast("TimmModel", self._features[0].model)
        return model.forward_head(x, pre_logits=True).flatten(1)
