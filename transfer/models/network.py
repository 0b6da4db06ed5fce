"""A backbone in torch: named layers that run one after the other, any of which can be read."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from transfer.models.backbone import Backbone

CHANNELS = 3  # of the images that every backbone takes


class Network(nn.Module):
    """The chain of `layers`, run in the order of the dict; built by `Backbone.build`.

    A layer is one named step with its activation: `conv3` is convolution, batch norm if any, and ReLU. The
    layers are its children, so the weights are called `conv3.conv.weight` whatever stands around them.
    """

    def __init__(self, layers: dict[str, nn.Module], spec: Backbone):
        super().__init__()
        self.spec = spec
        self.layer_names = list(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, S, S) to the last layer's output: (N, C, H, W), or (N, C) if it is flat."""
        for name in self.layer_names:
            x = getattr(self, name)(x)
        return x

    def layers(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """The outputs of the named layers, by the names asked for, from one run that stops after the deepest.

        Aliases count: `layers(x, ["conv5"])["conv5"]` of a VGG-16 is what `conv5_3` gives. An unknown name is
        a `ValueError` that says the nearest ones.
        """
        wanted = {name: self.spec.resolve_layer(name) for name in names}
        missing = set(wanted.values())
        outputs = {}
        for layer in self.layer_names:
            if not missing:
                break
            x = getattr(self, layer)(x)
            if layer in missing:
                missing.remove(layer)
                outputs[layer] = as_feature_map(getattr(self, layer), x)
        return {name: outputs[layer] for name, layer in wanted.items()}

    def width(self, size: int, layer: str | None = None) -> int:
        """How many values a layer, by default the last, gives of an image of `size` px; ValueError as of `shapes`."""
        return math.prod(self.shapes(size)[layer or self.layer_names[-1]])

    def shapes(self, size: int, channels: int = 3) -> dict[str, tuple[int, ...]]:
        """Every layer's output shape for an image (channels, size, size): (C, H, W), or (C,) if it is flat.

        Nothing is computed and no memory taken: a twin without weights runs on the meta device. `ValueError`
        if the images are too small for a layer, or have channels that the network does not take.
        """
        weights = list(chain(self.parameters(), self.buffers()))
        if channels != CHANNELS:
            raise ValueError(
                f"{self.spec.name} takes images of {CHANNELS} channels, not {channels}"
            )
        # Weights found in the memo are not copied, so the twin holds only their shapes.
        twin = copy.deepcopy(
            self, {id(w): torch.empty_like(w, device="meta") for w in weights}
        ).eval()
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
        small = (
            "use `stem: small`, or " if getattr(self.spec, "stem", None) == "imagenet" else "use "
        )
        height, width = reached
        return (
            f"layer {layer} of {self.spec.name} cannot take an input this small: images of {size} px "
            f"reach it as {height}x{width}; {small}bigger images"
        )


def as_feature_map(layer: nn.Module, out: Tensor) -> Tensor:
    """What a layer gives to those who read it, where that is not what the next layer takes."""
    return layer.as_feature_map(out) if hasattr(layer, "as_feature_map") else out
