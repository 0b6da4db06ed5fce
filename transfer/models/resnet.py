"""ResNet (He et al., 2016, "Deep Residual Learning for Image Recognition").

Layout and initial weights are torchvision's. Outputs for an image (3, 224, 224): conv1 (64, 112,
112), pool1 and layer1 (64, 56, 56), then layer2 to layer4, each half the size of the one before,
down to (512, 7, 7), and avgpool (512,). ResNet-50's layers have four times the channels, 2048 at
the end.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from transfer.models.backbone import Backbone
from transfer.utils.lazy_imports import nn

Name = Literal["resnet18", "resnet34", "resnet50"]

CHANNELS = (64, 128, 256, 512)
BLOCKS = {  # in each of the four layers
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
}


class ResNet(Backbone):
    """ResNet-18, 34 and 50: a stem, four stages of residual blocks, and their global average."""

    names: ClassVar[tuple[str, ...]] = get_args(Name)

    name: Name = Field(description="which depth")
    stem: Literal["imagenet", "small"] = Field(
        default="imagenet",
        description="imagenet: the published layout; small: for images below 96 px, conv1 is 3x3 "
        "with stride 1 instead of 7x7 with stride 2, without a max-pool (no layer pool1)",
    )

    def has_large_stem(self) -> bool:
        return self.stem == "imagenet"

    def layer_names(self) -> list[str]:
        stem = ["conv1"] if self.stem == "small" else ["conv1", "pool1"]
        return [*stem, "layer1", "layer2", "layer3", "layer4", "avgpool"]

    def default_layer(self) -> str:
        return "avgpool"

    def make_layers(self) -> dict[str, nn.Module]:
        from transfer.models.blocks import (
            basic_block,
            bottleneck,
            convolution,
            global_average,
            he_init,
            residual_stage,
        )

        inputs = self.channels(64)
        layers: dict[str, nn.Module] = {}
        if self.stem == "small":
            layers["conv1"] = convolution(3, inputs, 3)
        else:
            layers["conv1"] = convolution(3, inputs, 7, stride=2)
            layers["pool1"] = nn.MaxPool2d(3, stride=2, padding=1)
        block = bottleneck if self.name == "resnet50" else basic_block
        for stage, (count, published) in enumerate(
            zip(BLOCKS[self.name], CHANNELS, strict=True), 1
        ):
            channels, stride = self.channels(published), 1 if stage == 1 else 2
            layers[f"layer{stage}"], inputs = residual_stage(block, inputs, channels, count, stride)
        layers["avgpool"] = global_average()
        he_init(layers.values())
        return layers
