"""AlexNet, in the layouts in which papers on self-supervision published it.

`alexnet` is torchvision's (Krizhevsky, 2014, "One weird trick for parallelizing convolutional
neural networks"): for an image (3, 224, 224), conv1 is (64, 55, 55), conv5 (256, 13, 13), pool5
(256, 6, 6), fc6 and fc7 (4096,). The other names are presets of the same options:

- `alexnet_bvlc`: Caffe's, without LRN, as Zhang's linear tests and Colorization read it
  (richzhang/colorization, feature_learning_tests/linear/train_val.prototxt, models/).
- `alexnet_cfn`: a column of Jigsaw and Jigsaw++ (MehdiNoroozi/JigsawPuzzleSolver,
  train_val_cfn_jps++.prototxt): LRN, and conv1 at stride 2 while the pretext trains.
- `alexnet_deepcluster`: DeepCluster's (facebookresearch/deepcluster, models/alexnet.py).
- `alexnet_lci`: that of LCI (sjenni/LCI, models/alexnet.py).
- `alexnet_compress`: the student of CompRess (UMBCvision/CompRess, models/alexnet.py).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from transfer.models.alexnet_layouts import GROUPED, LAYOUTS, POOLED, LayerOptions, LayoutName
from transfer.models.backbone import Backbone
from transfer.utils.lazy_imports import nn

Name = Literal[
    "alexnet",
    "alexnet_bvlc",
    "alexnet_cfn",
    "alexnet_deepcluster",
    "alexnet_lci",
    "alexnet_compress",
]
PRESETS: dict[str, dict[str, Any]] = {
    "alexnet": {},
    "alexnet_bvlc": {"layout": "bvlc", "groups": 2},
    "alexnet_cfn": {
        "layout": "bvlc",
        "groups": 2,
        "lrn": True,
        "conv1_stride": 2,
        "transfer_stride": 4,
    },
    "alexnet_deepcluster": {"layout": "deepcluster", "input": "sobel", "batch_norm": True},
    "alexnet_lci": {"layout": "lci", "groups": 2, "batch_norm": True},
    "alexnet_compress": {"layout": "torchvision", "dropout": 0.0},
}


class AlexNet(Backbone):
    """Five convolutions, three pools, and two fully connected layers."""

    names: ClassVar[tuple[str, ...]] = get_args(Name)

    name: Name = Field(description="`alexnet`, or a published layout")
    layout: LayoutName = Field(
        default="torchvision",
        description="channels, padding and rounding; torchvision: 64-192-384-256-256; bvlc: "
        "Caffe's 96-256-384-384-256, without padding at conv1, pools round up; deepcluster: these "
        "channels with torchvision's padding; lci: these channels with TensorFlow's SAME padding",
    )
    conv1_stride: Literal[4, 2] = Field(default=4, description="step of conv1 in px")
    transfer_stride: Literal[4, 2] | None = Field(
        default=None,
        description="step of conv1 wherever a later stage reads the trained network; none: as in "
        "training. Jigsaw trains at 2 and is read at 4",
    )
    groups: Literal[1, 2] = Field(
        default=1, description="groups of conv2, conv4 and conv5; 2: half of the inputs each"
    )
    lrn: bool = Field(
        default=False,
        description="local response normalization behind pool1 and pool2 (5 channels, alpha 1e-4, "
        "beta 0.75)",
    )
    input: Literal["rgb", "sobel"] = Field(
        default="rgb",
        description="what conv1 sees; sobel: the two fixed Sobel gradients of the channels' mean",
    )
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

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("name") not in PRESETS:
            return values
        name, preset = values["name"], PRESETS[values["name"]]
        for option, value in preset.items():
            if values.get(option, value) != value:
                raise ValueError(
                    f"{name} has {option} {value}; for another, write `name: alexnet` and its "
                    "options"
                )
        return {**preset, **values}

    @model_validator(mode="after")
    def _check_combination(self) -> AlexNet:
        if self.stem == "small" and (self.conv1_stride, self.transfer_stride) != (4, None):
            raise ValueError(
                "the small stem has stride 2 and a 5x5 conv1; leave `conv1_stride` and "
                "`transfer_stride` out, or use `stem: imagenet`"
            )
        if self.groups == 2:
            for index in (1, 2, 3, 4, 5):
                channels = self.channels(LAYOUTS[self.layout].channels[index - 1])
                if (index in GROUPED or index + 1 in GROUPED) and channels % 2:
                    raise ValueError(
                        f"conv{index} has {channels} channels at width {self.width:g}, which two "
                        "groups cannot share; change `width`, or use `groups: 1`"
                    )
        return self

    def without_dense_layers(self) -> AlexNet:
        return self.model_copy(update={"fc": False}) if self.fc else self

    def has_large_stem(self) -> bool:
        return self.stem == "imagenet"

    def for_transfer(self) -> AlexNet:
        if self.transfer_stride is None:
            return self
        options = {"conv1_stride": self.transfer_stride, "transfer_stride": None}
        name = "alexnet" if PRESETS[self.name].keys() & options.keys() else self.name
        return AlexNet.model_validate(self.model_dump() | options | {"name": name})

    def layer_names(self) -> list[str]:
        names = []
        for index in range(1, 6):
            names += [f"conv{index}", *([f"pool{index}"] if index in POOLED else [])]
        return names + (["fc6", "fc7"] if self.fc else [])

    def default_layer(self) -> str:
        return "pool5"

    def make_layers(self) -> dict[str, nn.Module]:
        from transfer.models.alexnet_modules import init_layout, make_convolutions, make_dense

        layout = LAYOUTS[self.layout]
        options = LayerOptions(
            conv1_stride=self.conv1_stride,
            groups=self.groups,
            lrn=self.lrn,
            sobel=self.input == "sobel",
            batch_norm=self.batch_norm,
            small=self.stem == "small",
            dropout=self.dropout,
        )
        channels = [self.channels(count) for count in layout.channels]
        layers = make_convolutions(options, layout, channels)
        if self.fc:
            layers |= make_dense(options, layout, channels[-1], self.channels(4096))
        init_layout(self.layout, layers)
        return layers
