"""What adversarial pretext tasks share: a discriminator's trunk, and its two losses in one backward pass.

An adversarial task needs no second optimizer. The discriminator judges detached fakes, so its loss reaches nothing
else; the generator's loss goes through the discriminator with detached weights, so it reaches the generator alone.
Their sum gives each part exactly its own gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.pretext._decoder import dcgan_init
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

LAST = 4  # px: the trunk halves its maps down to this


def trunk(side: int, width: int, widest: int = 512) -> tuple[nn.Sequential, int]:
    """DCGAN's discriminator before its last layer: (N, 3, side, side) to (N, D), with D.

    Convolutions of stride 2, with leaky ReLUs and, but for the first, batch norm.
    """
    layers: list[nn.Module] = []
    channels, made = 3, width
    while not layers or side > LAST:
        layers.append(nn.Conv2d(channels, made, 4, stride=2, padding=1, bias=not layers))
        if len(layers) > 1:
            layers.append(nn.BatchNorm2d(made))
        layers.append(nn.LeakyReLU(0.2))
        channels, made, side = made, min(widest, 2 * made), side // 2
    dcgan_init(layers)
    return nn.Sequential(*layers, nn.Flatten()), channels * side * side


def call_with_frozen_weights(part: nn.Module, *inputs: Tensor) -> Tensor:
    """What `part` makes of `inputs`, with gradients for the inputs and none for its weights."""
    return torch.func.functional_call(
        part, {name: p.detach() for name, p in part.named_parameters()}, inputs
    )


def gan_bce(logits: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy of logits (N, 1) against one answer for all of them."""
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def discriminator_accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """The share of logits (N, 1) that are on their right side: 0.5 where the discriminator is fooled."""
    return torch.cat((real > 0, fake <= 0)).float().mean()
