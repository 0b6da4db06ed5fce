"""Building blocks of the families' layers, and their initial weights."""

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
    groups: int = 1,
) -> nn.Sequential:
    """Make convolution, batch norm and ReLU: (N, inputs, H, W) to (N, outputs, H / stride, ...).

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel.
        stride: step between outputs.
        batch_norm: add batch normalization.
        bias: add a bias to the convolution.
        padding: rows of zeros at each side; by default, what keeps the size at stride 1.
        relu: add a ReLU.
        groups: of channels; each output sees the inputs of its own group.
    """
    padding = kernel // 2 if padding is None else padding
    steps: OrderedDict[str, nn.Module] = OrderedDict()
    if kernel == 1 and stride > 1:
        # Two steps with the same result. On CPUs, oneDNN's gradient of such a convolution with
        # fewer than 16 channels writes out of bounds.
        steps["skip"], stride = nn.AvgPool2d(1, stride), 1
    steps["conv"] = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=bias
    )
    if batch_norm:
        steps["norm"] = nn.BatchNorm2d(outputs)
    if relu:
        steps["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(steps)


def fuse_batchnorm(network: nn.Module) -> None:
    """Fuse each batch norm of a frozen network with its convolution: same outputs, fewer passes."""
    for steps in network.modules():
        # Only what `convolution` made: elsewhere, a `norm` may have another place, and a subclass
        # may do more.
        norm = getattr(steps, "norm", None)
        if isinstance(steps, nn.Sequential) and type(norm) is nn.BatchNorm2d:
            assert isinstance(steps.conv, nn.Conv2d), "`convolution` puts one before a norm"
            steps.conv = fuse_conv_bn_eval(steps.conv, norm)
            del steps.norm


def global_average() -> nn.Sequential:
    """Make the mean over the map: (N, C, H, W) to (N, C)."""
    return nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)) (He et al., 2016, "Deep Residual Learning").

    The shortcut is the identity, or a 1x1 convolution with batch norm where the shape changes.
    """

    def __init__(self, body: nn.Module, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = body
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = convolution(inputs, outputs, 1, stride=stride, relu=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        out = self.body(x)
        out += self.shortcut(x)
        return self.relu(out)


def basic_block(inputs: int, channels: int, stride: int) -> tuple[Residual, int]:
    """Make two 3x3 convolutions, as in ResNet-18 and 34. Return the block and its channels."""
    body = nn.Sequential(
        convolution(inputs, channels, 3, stride=stride),
        convolution(channels, channels, 3, relu=False),
    )
    return Residual(body, inputs, channels, stride), channels


def bottleneck(inputs: int, channels: int, stride: int) -> tuple[Residual, int]:
    """Make 1x1, 3x3 and 1x1 convolutions, as in ResNet-50. Return the block and its channels.

    The last 1x1 has four times the channels. The stride is in the 3x3 convolution, as in
    torchvision; the paper has it in the first 1x1.
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
    """Make a stage of `count` blocks. Return it and its output channels.

    Args:
        block: makes a block.
        inputs: input channels.
        channels: channels of the blocks.
        count: number of blocks.
        stride: of the first block; the others have 1.
    """
    blocks = []
    for index in range(count):
        residual, inputs = block(inputs, channels, stride if index == 0 else 1)
        blocks.append(residual)
    return nn.Sequential(*blocks), inputs


def he_init(layers: Iterable[nn.Module]) -> None:
    """Draw He-normal convolutions and normal linear weights; set biases to zero.

    Convolutions have the variance 2 / (kernel area * outputs), linear weights the deviation 0.01.
    """
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
