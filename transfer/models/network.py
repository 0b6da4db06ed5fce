"""A backbone in torch: a sequence of named layers whose outputs can be read."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from transfer.models.backbone import Backbone

CHANNELS = 3  # of the images that every backbone takes


class MapLayer(nn.Module):
    """Base of layers whose output has another form for readers than for the next layer."""

    def as_feature_map(self, out: Tensor) -> Tensor:
        """Return the output of `forward` in its form for readers."""
        raise NotImplementedError


class Network(nn.Module):
    """The sequence of `layers` in the order of the dict; `build_network` makes it.

    A layer is a named step with its activation: `conv3` is convolution, batch norm if any, and
    ReLU. Layers are direct children, so weights have names such as `conv3.conv.weight`.
    """

    def __init__(self, layers: dict[str, nn.Module], spec: Backbone):
        super().__init__()
        self.spec = spec
        self.layer_names = list(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, S, S) to the last layer's output: (N, C, H, W), or (N, C) if flat."""
        for name in self.layer_names:
            x = getattr(self, name)(x)
        return x

    def layers(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return name -> output of the named layers, from a run that stops after the deepest.

        Aliases are valid: for VGG-16, `layers(x, ["conv5"])["conv5"]` is the output of `conv5_3`.
        ValueError with the nearest names for an unknown name.
        """
        requested = {name: self.spec.resolve_layer(name) for name in names}
        missing = set(requested.values())
        outputs = {}
        for layer in self.layer_names:
            if not missing:
                break
            x = getattr(self, layer)(x)
            if layer in missing:
                missing.remove(layer)
                outputs[layer] = as_feature_map(getattr(self, layer), x)
        return {name: outputs[layer] for name, layer in requested.items()}

    def width(self, size: int, layer: str | None = None) -> int:
        """Return the values of a layer (default: the last) for an image of `size` px.

        ValueError as of `shapes`.
        """
        return math.prod(self.shapes(size)[layer or self.layer_names[-1]])

    def shapes(self, size: int, channels: int = 3) -> dict[str, tuple[int, ...]]:
        """Return each layer's output shape for an image (channels, size, size).

        A shape is (C, H, W), or (C,) if flat. A copy without weights runs on the meta device, so
        this computes nothing and takes no memory. ValueError if the images are too small for a
        layer, or have another number of channels than the network takes.
        """
        weights = list(chain(self.parameters(), self.buffers()))
        if channels != CHANNELS:
            raise ValueError(
                f"{self.spec.name} takes images of {CHANNELS} channels, not {channels}"
            )
        # `deepcopy` does not copy weights in the memo, so the twin has only their shapes.
        memo = {id(weight): torch.empty_like(weight, device="meta") for weight in weights}
        twin = copy.deepcopy(self, memo).eval()
        x = torch.empty(1, channels, size, size, device="meta", dtype=weights[0].dtype)
        shapes = {}
        for name in self.layer_names:
            try:
                with torch.no_grad():
                    out = twin.get_submodule(name)(x)
            except RuntimeError as error:
                raise ValueError(self._too_small(name, size, tuple(x.shape[-2:]))) from error
            x = out
            shapes[name] = tuple(as_feature_map(twin.get_submodule(name), x).shape[1:])
        return shapes

    def _too_small(self, layer: str, size: int, reached: tuple[int, ...]) -> str:
        small = "`stem: small`, or " if self.spec.has_large_stem() else ""
        height, width = reached
        return (
            f"layer {layer} of {self.spec.name} cannot take images of {size} px: they reach it as "
            f"{height}x{width}; use {small}bigger images"
        )


def as_feature_map(layer: nn.Module, out: Tensor) -> Tensor:
    """Return a layer's output in its form for readers."""
    return layer.as_feature_map(out) if isinstance(layer, MapLayer) else out
