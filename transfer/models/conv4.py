"""Conv4, the smallest network of relational reasoning.

Patacchiola & Storkey (2020, "Self-Supervised Relational Reasoning for Representation Learning"):
four 3x3 convolutions with batch norm and ReLU, and an average pool of 2 after the first three.
Outputs for an image (3, 32, 32): conv1 (8, 16, 16), conv2 (16, 8, 8), conv3 (32, 4, 4), conv4
(64, 4, 4), avgpool (64,).
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from transfer.models.backbone import Backbone
from transfer.utils.lazy_imports import nn

Name = Literal["conv4"]

CHANNELS = (8, 16, 32, 64)


class Conv4(Backbone):
    """Four convolutions and their global average, for images of 8 px and more.

    The pools are part of conv1, conv2 and conv3, as in the paper's blocks.
    """

    names: ClassVar[tuple[str, ...]] = get_args(Name)

    name: Name = Field(description="the only network of the family")

    def layer_names(self) -> list[str]:
        return ["conv1", "conv2", "conv3", "conv4", "avgpool"]

    def default_layer(self) -> str:
        return "avgpool"

    def make_layers(self) -> dict[str, nn.Module]:
        from transfer.models.blocks import convolution, global_average, he_init

        layers: dict[str, nn.Module] = {}
        inputs = 3
        for index, published in enumerate(CHANNELS, 1):
            channels = self.channels(published)
            layer = convolution(inputs, channels, 3)
            if index < len(CHANNELS):
                layer.add_module("pool", nn.AvgPool2d(2))
            layers[f"conv{index}"] = layer
            inputs = channels
        layers["avgpool"] = global_average()
        he_init(layers.values())
        return layers
