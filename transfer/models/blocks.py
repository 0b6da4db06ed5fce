"""The pieces that families build their layers of, and the weights that they start from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    batch_norm: bool = True,
    bias: bool = False,
    padding: int | None = None,
    relu: bool = True,
) -> nn.Sequential:
    """Convolution, batch norm, ReLU: (N, inputs, H, W) to (N, outputs, H / stride, W / stride).

    The padding that keeps the size (at stride 1) is the default.
    """
    padding = kernel // 2 if padding is None else padding
    steps: OrderedDict[str, nn.Module] = OrderedDict()
    if kernel == 1 and stride > 1:
        # The same numbers in two steps: on CPUs, oneDNN's gradient of such a convolution of fewer than 16 channels
        # writes where it must not.
        steps["skip"], stride = nn.AvgPool2d(1, stride), 1
    steps["conv"] = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias)
    if batch_norm:
        steps["norm"] = nn.BatchNorm2d(outputs)
    if relu:
        steps["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(steps)


def fuse_batchnorm(network: nn.Module) -> None:
    """Put every batch norm of a frozen network into the convolution before it: the same outputs in fewer passes."""
    for steps in network.modules():
        # Only what `convolution` made: in networks of others a `norm` may stand elsewhere, or do more.
        if (
            isinstance(steps, nn.Sequential)
            and type(getattr(steps, "norm", None)) is nn.BatchNorm2d
        ):
            steps.conv = fuse_conv_bn_eval(steps.conv, steps.norm)
            del steps.norm


def global_average() -> nn.Sequential:
    """The mean over the map: (N, C, H, W) to (N, C)."""
    return nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)) (He et al., 2016, "Deep Residual Learning for Image Recognition").

    The shortcut is the input itself, or a 1x1 convolution with batch norm where the shape changes.
    """

    def __init__(self, body: nn.Module, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = body
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = convolution(inputs, outputs, 1, stride=stride, relu=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        out = self.body(x)
        out += self.shortcut(x)
        return self.relu(out)


def basic_block(inputs: int, channels: int, stride: int) -> tuple[Residual, int]:
    """Two 3x3 convolutions, as in ResNet-18 and 34; the block and the channels that it puts out."""
    body = nn.Sequential(
        convolution(inputs, channels, 3, stride=stride),
        convolution(channels, channels, 3, relu=False),
    )
    return Residual(body, inputs, channels, stride), channels


def bottleneck(inputs: int, channels: int, stride: int) -> tuple[Residual, int]:
    """1x1, 3x3 and 1x1 to four times the channels, as in ResNet-50; the block and its output channels.

    The stride is the 3x3 convolution's, as in torchvision; the paper has it in the first 1x1.
    """
    outputs = 4 * channels
    body = nn.Sequential(
        convolution(inputs, channels, 1),
        convolution(channels, channels, 3, stride=stride),
        convolution(channels, outputs, 1, relu=False),
    )
    return Residual(body, inputs, outputs, stride), outputs


Block = Callable[[int, int, int], tuple[Residual, int]]


def residual_stage(
    block: Block, inputs: int, channels: int, count: int, stride: int
) -> tuple[nn.Sequential, int]:
    """`count` blocks, the first of which has the stride; the stage and the channels that it puts out."""
    blocks = []
    for index in range(count):
        made, inputs = block(inputs, channels, stride if index == 0 else 1)
        blocks.append(made)
    return nn.Sequential(*blocks), inputs


def he_init(layers: Iterable[nn.Module]) -> None:
    """He-normal convolutions, variance 2 / (kernel area * outputs); linear weights of 0.01; zero biases."""
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
