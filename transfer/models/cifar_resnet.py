"""The narrow ResNets for small images, as used in relational reasoning.

He et al. (2016) designed them for CIFAR-10. This is the variant of Patacchiola & Storkey (2020,
"Self-Supervised Relational Reasoning for Representation Learning"), with 1x1 convolutions and batch
norm as shortcuts where the shape changes. Outputs for an image (3, 32, 32): conv1 and layer1
(16, 32, 32), layer2 (32, 16, 16), layer3 (64, 8, 8), avgpool (64,).
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from transfer.models.backbone import Backbone
from transfer.utils.lazy_imports import nn

Name = Literal["resnet8", "resnet32", "resnet56"]

CHANNELS = (16, 32, 64)
BLOCKS = {"resnet8": 1, "resnet32": 5, "resnet56": 9}  # in each of the three layers


class CifarResNet(Backbone):
    """ResNet-8, 32 and 56: a convolution, three stages of residual blocks, a global average."""

    names: ClassVar[tuple[str, ...]] = get_args(Name)

    name: Name = Field(description="which depth")

    def layer_names(self) -> list[str]:
        return ["conv1", "layer1", "layer2", "layer3", "avgpool"]

    def default_layer(self) -> str:
        return "avgpool"

    def make_layers(self) -> dict[str, nn.Module]:
        from transfer.models.blocks import (
            basic_block,
            convolution,
            global_average,
            he_init,
            residual_stage,
        )

        inputs = self.channels(CHANNELS[0])
        layers: dict[str, nn.Module] = {"conv1": convolution(3, inputs, 3)}
        for stage, published in enumerate(CHANNELS, 1):
            channels, stride = self.channels(published), 1 if stage == 1 else 2
            count = BLOCKS[self.name]
            layers[f"layer{stage}"], inputs = residual_stage(
                basic_block, inputs, channels, count, stride
            )
        layers["avgpool"] = global_average()
        he_init(layers.values())
        return layers
