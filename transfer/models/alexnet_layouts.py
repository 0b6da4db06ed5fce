"""The layouts of AlexNet: what they differ in, and the options of their layers."""

from __future__ import annotations

from typing import Literal, NamedTuple

LayoutName = Literal["torchvision", "bvlc", "deepcluster", "lci"]
Rounding = Literal["floor", "ceil", "same"]


class Layout(NamedTuple):
    """What the layouts differ in besides their options."""

    channels: tuple[int, int, int, int, int]  # of conv1 to conv5
    padding: int | None  # of conv1; None: as TensorFlow's SAME
    pools: Rounding  # how the side of a pool's output is rounded
    dropout_first: bool  # whether dropout is before fc6 and fc7, or behind their ReLUs


LAYOUTS: dict[LayoutName, Layout] = {
    "torchvision": Layout((64, 192, 384, 256, 256), 2, "floor", True),
    "bvlc": Layout((96, 256, 384, 384, 256), 0, "ceil", False),
    "deepcluster": Layout((96, 256, 384, 384, 256), 2, "floor", True),
    "lci": Layout((96, 256, 384, 384, 256), None, "same", False),
}
KERNELS = (11, 5, 3, 3, 3)
POOLED, GROUPED = (1, 2, 5), (2, 4, 5)  # the convolutions that a pool follows; those in groups


class LayerOptions(NamedTuple):
    """The options of `AlexNet` that its layers depend on."""

    conv1_stride: int
    groups: int
    lrn: bool
    sobel: bool  # whether conv1 sees Sobel gradients
    batch_norm: bool
    small: bool  # whether conv1 is the small stem
    dropout: float
