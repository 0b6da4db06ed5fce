"""AlexNet (Krizhevsky, 2014, "One weird trick for parallelizing convolutional neural networks").

Layout (64, 192, 384, 256, 256 channels) and initial weights are torchvision's. Outputs for an image
(3, 224, 224): conv1 (64, 55, 55), conv5 (256, 13, 13), pool5 (256, 6, 6), fc6 and fc7 (4096,).
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from transfer.models.backbone import Backbone
from transfer.utils.lazy_imports import nn

Name = Literal["alexnet"]

CONVOLUTIONS = {  # channels, kernel, whether a max-pool follows
    "conv2": (192, 5, True),
    "conv3": (384, 3, False),
    "conv4": (256, 3, False),
    "conv5": (256, 3, True),
}


class AlexNet(Backbone):
    """Five convolutions, three pools, and two fully connected layers."""

    names: ClassVar[tuple[str, ...]] = get_args(Name)

    name: Name = Field(description="the only network of the family")
    batch_norm: bool = Field(
        default=False, description="batch normalization after each convolution"
    )
    stem: Literal["imagenet", "small"] = Field(
        default="imagenet",
        description="imagenet: the published layout, for images of 63 px and more; small: for "
        "images below 96 px and down to 29 px, conv1 is 5x5 with stride 2 and padding 2 instead of "
        "11x11 with stride 4, and the average pool before fc6 gives a map of 3x3 instead of 6x6",
    )
    fc: bool = Field(default=True, description="the two fully connected layers fc6 and fc7")
    dropout: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="share of the inputs of fc6 and fc7 dropped in training",
    )

    def has_large_stem(self) -> bool:
        return self.stem == "imagenet"

    def layer_names(self) -> list[str]:
        names = ["conv1", "pool1"]
        for conv, (_, _, pooled) in CONVOLUTIONS.items():
            names += [conv, conv.replace("conv", "pool")] if pooled else [conv]
        return names + (["fc6", "fc7"] if self.fc else [])

    def default_layer(self) -> str:
        return "pool5"

    def make_layers(self) -> dict[str, nn.Module]:
        from transfer.models.blocks import convolution

        inputs = self.channels(64)
        kernel, stride = (5, 2) if self.stem == "small" else (11, 4)
        norm = self.batch_norm
        layers: dict[str, nn.Module] = {
            "conv1": convolution(
                3, inputs, kernel, stride=stride, padding=2, batch_norm=norm, bias=True
            ),
            "pool1": nn.MaxPool2d(3, stride=2),
        }
        for conv, (count, kernel, pooled) in CONVOLUTIONS.items():
            channels = self.channels(count)
            layers[conv] = convolution(inputs, channels, kernel, batch_norm=norm, bias=True)
            if pooled:
                layers[conv.replace("conv", "pool")] = nn.MaxPool2d(3, stride=2)
            inputs = channels
        return layers | (self._fully_connected(inputs) if self.fc else {})

    def _fully_connected(self, inputs: int) -> dict[str, nn.Module]:
        """Make fc6 and fc7: (N, C, H, W) to (N, 4096), with dropout first as in torchvision."""
        units = self.channels(4096)
        side = 3 if self.stem == "small" else 6
        flat = [nn.AdaptiveAvgPool2d(side), nn.Flatten()]

        def dense(features: int) -> list[nn.Module]:
            return [nn.Dropout(self.dropout), nn.Linear(features, units), nn.ReLU(inplace=True)]

        return {
            "fc6": nn.Sequential(*flat, *dense(inputs * side * side)),
            "fc7": nn.Sequential(*dense(units)),
        }
