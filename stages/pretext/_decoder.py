"""From a vector or a map back to an image: the up-convolutions that several pretext tasks share.

The layout is DCGAN's (Radford, Metz & Chintala, ICLR 2016), which context encoders and BiGAN use too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import nn

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network

FIRST = 4  # px: the side of the map that a vector becomes, or the next size from which doubling leads to the image


def decoder(
    shape: tuple[int, ...], side: int, outputs: int = 3, width: int = 64, widest: int = 512
) -> nn.Sequential:
    """A vector (N, D) or a map (N, C, h, h) to (N, outputs, side, side), of any range.

    shape: (D,) or (C, h, h). Up-convolutions double the side, or make it one px less than double, until it is there.
    The last hidden map has `width` channels, each one before it twice as many, `widest` at most.
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
            layers.append(
                nn.Upsample(size=sides[0], mode="nearest")
            )  # other modes have no exact gradient on a GPU
    if len(sides) == 1:
        layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
    for left, wanted in zip(range(len(sides) - 2, -1, -1), sides[1:], strict=True):
        made = min(widest, width << (left - 1)) if left else outputs
        kernel = 4 if wanted % 2 == 0 else 3
        layers.append(
            nn.ConvTranspose2d(channels, made, kernel, stride=2, padding=1, bias=not left)
        )
        if left:
            layers += [nn.BatchNorm2d(made), nn.ReLU()]
        channels = made
    dcgan_init(layers)
    return nn.Sequential(*layers)


def doublings(start: int, side: int) -> list[int]:
    """The sides of the maps on the way to `side`, each twice the last or one less.

    The first is `start` or more, but below twice that; where `side` is below `start`, it is the only one.
    """
    sides = [side]
    while (half := -(-sides[0] // 2)) >= start and half < sides[0]:
        sides.insert(0, half)
    return sides


def deepest_map(backbone: Network, images: Tensor) -> Tensor:
    """(N, C, h, h): the last output up to the backbone's default layer that still has places."""
    last = images
    for name in _convolutional(backbone):
        output = backbone.get_submodule(name)(last)
        if output.ndim == 4:
            last = output
    return last


def deepest_map_shape(backbone: Network, size: int) -> tuple[int, int, int]:
    """(C, h, h) of `deepest_map` for images of `size` px; ValueError where they are too small for the network."""
    shapes = backbone.shapes(size)
    return [shapes[name] for name in _convolutional(backbone) if len(shapes[name]) == 3][-1]


def _convolutional(backbone: Network) -> list[str]:
    names = backbone.layer_names
    return names[: names.index(backbone.spec.default_layer()) + 1]


def dcgan_init(layers: Iterable[nn.Module]) -> None:
    """Weights from N(0, 0.02), those of norms from N(1, 0.02), no biases: as DCGAN starts."""
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
