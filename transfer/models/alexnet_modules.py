"""The layers of AlexNet's layouts in torch, and their initial weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer.models.alexnet_layouts import GROUPED, KERNELS, POOLED, LayerOptions, Layout
from transfer.models.blocks import convolution, he_init

SOBEL = ([[1, 0, -1], [2, 0, -2], [1, 0, -1]], [[1, 2, 1], [0, 0, 0], [-1, -2, -1]])


class SamePad(nn.Module):
    """Pad (N, C, H, W) as TensorFlow's SAME does: outputs are ceil(H / stride) high.

    Where the rows do not halve, the greater half is at the bottom and at the right.
    """

    def __init__(self, kernel: int, stride: int, value: float = 0.0):
        super().__init__()
        self.kernel, self.stride, self.value = kernel, stride, value

    def forward(self, x: Tensor) -> Tensor:
        """Return the padded maps."""
        rows, columns = (self._pad(side) for side in x.shape[-2:])
        return F.pad(x, (*columns, *rows), value=self.value)

    def _pad(self, side: int) -> tuple[int, int]:
        outputs = -(-side // self.stride)
        missing = max(0, (outputs - 1) * self.stride + self.kernel - side)
        return missing // 2, missing - missing // 2


class Sobel(nn.Module):
    """The Sobel gradients of an image: (N, 3, H, W) to (N, 2, H, W); the weights are fixed.

    The gray image is the mean of the three normalized channels, as in DeepCluster.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not in the state dict: it is no weight, and files of weights have it in other forms.
        self.register_buffer("kernel", torch.tensor(SOBEL).float()[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gradients along the columns and along the rows."""
        return F.conv2d(x.mean(1, keepdim=True), self.kernel.to(x.dtype), padding=1)


def make_convolutions(
    options: LayerOptions, layout: Layout, channels: Sequence[int]
) -> dict[str, nn.Module]:
    """Make conv1 to pool5.

    Args:
        options: the options.
        layout: the layout that they name.
        channels: of conv1 to conv5.
    """
    layers: dict[str, nn.Module] = {"conv1": _first_convolution(options, layout, channels[0])}
    for index in range(1, 6):
        if index > 1:
            layers[f"conv{index}"] = convolution(
                channels[index - 2],
                channels[index - 1],
                KERNELS[index - 1],
                batch_norm=options.batch_norm,
                bias=True,
                groups=options.groups if index in GROUPED else 1,
            )
        if index in POOLED:
            layers[f"pool{index}"] = _pool(layout, lrn=options.lrn and index < 5)
    return layers


def _first_convolution(options: LayerOptions, layout: Layout, outputs: int) -> nn.Sequential:
    """Make conv1: images (N, 3, S, S) to (N, outputs, S / stride, ...)."""
    small = options.small
    kernel, stride = (5, 2) if small else (11, options.conv1_stride)
    padding = 2 if small else layout.padding
    inputs = 2 if options.sobel else 3
    steps: OrderedDict[str, nn.Module] = OrderedDict()
    if options.sobel:
        steps["sobel"] = Sobel()
    if padding is None:
        steps["pad"] = SamePad(kernel, stride)
    conv = convolution(
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=padding or 0,
        batch_norm=options.batch_norm,
        bias=True,
    )
    return nn.Sequential(steps | OrderedDict(conv.named_children()))


def _pool(layout: Layout, lrn: bool) -> nn.Module:
    """Make a max-pool of 3x3 with stride 2, and the normalization behind it."""
    pool: nn.Module = nn.MaxPool2d(3, stride=2, ceil_mode=layout.pools == "ceil")
    if layout.pools == "same":
        pool = nn.Sequential(SamePad(3, 2, value=-torch.inf), pool)
    return nn.Sequential(pool, nn.LocalResponseNorm(5, 1e-4, 0.75)) if lrn else pool


def make_dense(
    options: LayerOptions, layout: Layout, inputs: int, units: int
) -> dict[str, nn.Module]:
    """Make fc6 and fc7: (N, C, H, W) to (N, units).

    Args:
        options: the options.
        layout: the layout that they name.
        inputs: channels of pool5.
        units: outputs of each layer.
    """
    side = 3 if options.small else 6
    flat = [nn.AdaptiveAvgPool2d(side), nn.Flatten()]

    def dense(features: int) -> list[nn.Module]:
        drop, relu = nn.Dropout(options.dropout), nn.ReLU(inplace=True)
        linear = nn.Linear(features, units)
        return [drop, linear, relu] if layout.dropout_first else [linear, relu, drop]

    return {
        "fc6": nn.Sequential(*flat, *dense(inputs * side * side)),
        "fc7": nn.Sequential(*dense(units)),
    }


def init_layout(layout: str, layers: dict[str, nn.Module]) -> None:
    """Draw the initial weights of the layout's source; torchvision's are torch's own.

    bvlc: normal weights of deviation 0.01 (fc6, fc7: 0.005), biases 1 in conv2, conv4, conv5, fc6
    and fc7, else 0. deepcluster: He-normal. lci: normal weights of deviation 0.01 (fc6, fc7:
    0.005), which are truncated at two deviations.
    """
    if layout == "deepcluster":
        he_init(layers.values())
    if layout not in ("bvlc", "lci"):
        return
    for name, layer in layers.items():
        for module in layer.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                deviation = 0.005 if name.startswith("fc") else 0.01
                if layout == "bvlc":
                    nn.init.normal_(module.weight, std=deviation)
                else:
                    bound = 2 * deviation
                    nn.init.trunc_normal_(module.weight, std=deviation, a=-bound, b=bound)
                shifted = layout == "bvlc" and name in ("conv2", "conv4", "conv5", "fc6", "fc7")
                assert module.bias is not None, "every layer of AlexNet has a bias"
                nn.init.constant_(module.bias, 1.0 if shifted else 0.0)
