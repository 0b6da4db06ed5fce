"""Decoders from a vector or a map to an image, by up-convolutions.

The layout is DCGAN's (Radford, Metz & Chintala, ICLR 2016), as in context encoders and BiGAN.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from transfer.utils.lazy_imports import nn

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network

FIRST = 4  # px, the least side of the map that a vector becomes


def decoder(
    shape: tuple[int, ...], side: int, outputs: int = 3, width: int = 64, widest: int = 512
) -> nn.Sequential:
    """Return a decoder from (N, D) or (N, C, h, h) to (N, outputs, side, side), of any range.

    Each up-convolution doubles the side, or makes it one px less than double.

    Args:
        shape: (D,) or (C, h, h), the shape of an input.
        side: side of the output in px.
        outputs: channels of the output.
        width: channels of the last hidden map; each map before it has twice as many.
        widest: the largest number of channels.
    """
    layers: list[nn.Module] = []
    if len(shape) == 1:
        sides = doublings(FIRST, side)
        channels = min(widest, width << max(0, len(sides) - 2))
        layers += [nn.Linear(shape[0], channels * sides[0] ** 2, bias=False)]
        layers += [
            nn.Unflatten(1, (channels, sides[0], sides[0])),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
    else:
        channels, start, _ = shape
        sides = doublings(start, side)
        if sides[0] != start:
            # The gradient of other modes is not exact on a GPU.
            layers.append(nn.Upsample(size=sides[0], mode="nearest"))
    if len(sides) == 1:
        layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
    for remaining, next_side in zip(range(len(sides) - 2, -1, -1), sides[1:], strict=True):
        next_channels = min(widest, width << (remaining - 1)) if remaining else outputs
        kernel = 4 if next_side % 2 == 0 else 3
        layers.append(
            nn.ConvTranspose2d(
                channels, next_channels, kernel, stride=2, padding=1, bias=not remaining
            )
        )
        if remaining:
            layers += [nn.BatchNorm2d(next_channels), nn.ReLU()]
        channels = next_channels
    dcgan_init(layers)
    return nn.Sequential(*layers)


def doublings(start: int, side: int) -> list[int]:
    """Return the sides of the maps on the way to `side`, each twice the last, or one less.

    The first is at least `start` and below twice that. A `side` below `start` is the only one.
    """
    sides = [side]
    while (half := -(-sides[0] // 2)) >= start and half < sides[0]:
        sides.insert(0, half)
    return sides


def deepest_map(backbone: nn.Module, images: Tensor) -> Tensor:
    """Return (N, C, h, h), the last spatial output up to the backbone's default layer."""
    network = cast("Network", backbone)  # a ModuleDict gives its parts the type nn.Module
    last = images
    for name in _layers_to_default(network):
        output = network.get_submodule(name)(last)
        if output.ndim == 4:
            last = output
    return last


def deepest_map_shape(backbone: Network, size: int) -> tuple[int, int, int]:
    """Return (C, h, h) of `deepest_map` for images of `size` px; ValueError for too small ones."""
    shapes = backbone.shapes(size)
    spatial = [shapes[name] for name in _layers_to_default(backbone) if len(shapes[name]) == 3]
    channels, height, width = spatial[-1]
    return channels, height, width


def _layers_to_default(backbone: Network) -> list[str]:
    names = backbone.layer_names
    return names[: names.index(backbone.spec.default_layer()) + 1]


def dcgan_init(layers: Iterable[nn.Module]) -> None:
    """Initialize as DCGAN: weights from N(0, 0.02), those of norms from N(1, 0.02), zero biases."""
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.02)
            else:
                continue
            if module.bias is not None:
                nn.init.zeros_(module.bias)
