"""VGG (Simonyan & Zisserman, 2015, "Very Deep Convolutional Networks").

Layout and initial weights are torchvision's. Outputs for an image (3, S, S): the 3x3 convolutions
keep the size and each pool halves it, so pool5 is (512, S / 32, S / 32): (512, 7, 7) at 224 px.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field, model_validator

from transfer.models.backbone import Backbone
from transfer.utils.lazy_imports import nn

Name = Literal["vgg11", "vgg13", "vgg16", "vgg19"]

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {  # in each of the five blocks
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


class VGG(Backbone):
    """VGG-11, 13, 16 and 19: conv1_1 ... pool5, and optionally fc6 and fc7.

    The short names conv1 to conv5 are the last convolution of each block.
    """

    names: ClassVar[tuple[str, ...]] = get_args(Name)

    name: Name = Field(description="which depth")
    batch_norm: bool = Field(
        default=False, description="batch normalization after each convolution"
    )
    stem: Literal["imagenet", "small"] = Field(
        default="imagenet",
        description="imagenet: the published layout, for images of 32 px and more; small: for "
        "images below 96 px, the max-pools round odd sizes up (ceil_mode), so that tiles of 16 px "
        "and more still give a 1x1 map at pool5; no fc layers",
    )
    fc: bool = Field(
        default=False,
        description="the fully connected layers fc6 and fc7, after an average pool to 7x7; off, "
        "since pretexts put their own head on the convolutions",
    )

    @model_validator(mode="after")
    def _check_fc(self) -> VGG:
        if self.fc and self.stem == "small":
            raise ValueError(
                "the small stem has no fully connected layers; use `fc: false` or `stem: imagenet`"
            )
        return self

    def _blocks(self) -> list[tuple[list[str], str, int]]:
        """Return for each block the names of its convolutions and of its pool, and its channels."""
        blocks = []
        for block, (count, channels) in enumerate(
            zip(CONVOLUTIONS[self.name], CHANNELS, strict=True), 1
        ):
            convs = [f"conv{block}_{index}" for index in range(1, count + 1)]
            blocks.append((convs, f"pool{block}", self.channels(channels)))
        return blocks

    def without_dense_layers(self) -> VGG:
        return self.model_copy(update={"fc": False}) if self.fc else self

    def has_large_stem(self) -> bool:
        return self.stem == "imagenet"

    def layer_names(self) -> list[str]:
        convolutional = [name for convs, pool, _ in self._blocks() for name in (*convs, pool)]
        return convolutional + (["fc6", "fc7"] if self.fc else [])

    def aliases(self) -> dict[str, str]:
        return {f"conv{block}": convs[-1] for block, (convs, _, _) in enumerate(self._blocks(), 1)}

    def default_layer(self) -> str:
        return "pool5"

    def make_layers(self) -> dict[str, nn.Module]:
        from transfer.models.blocks import convolution, he_init

        layers: dict[str, nn.Module] = {}
        inputs = 3
        for convs, pool, channels in self._blocks():
            for conv in convs:
                layers[conv] = convolution(
                    inputs, channels, 3, batch_norm=self.batch_norm, bias=True
                )
                inputs = channels
            layers[pool] = nn.MaxPool2d(2, stride=2, ceil_mode=self.stem == "small")
        if self.fc:
            layers |= self._fully_connected(inputs)
        he_init(layers.values())
        return layers

    def _fully_connected(self, inputs: int) -> dict[str, nn.Module]:
        """Make fc6 and fc7: (N, C, H, W) to (N, 4096), with dropout last as published."""
        units = self.channels(4096)

        def dense(features: int) -> list[nn.Module]:
            return [nn.Linear(features, units), nn.ReLU(inplace=True), nn.Dropout(0.5)]

        flat = [nn.AdaptiveAvgPool2d(7), nn.Flatten()]
        return {
            "fc6": nn.Sequential(*flat, *dense(inputs * 7 * 7)),
            "fc7": nn.Sequential(*dense(units)),
        }
