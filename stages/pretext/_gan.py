"""Adversarial losses: a discriminator's trunk, and two losses that share one backward pass.

An adversarial task needs no second optimizer. The discriminator classifies detached fakes, so its
loss has gradients for the discriminator only. The generator's loss goes through the discriminator
with detached weights, so it has gradients for the generator only. The sum of both losses gives each
part exactly its own gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.pretext._decoder import dcgan_init
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

LAST = 4  # px, the side at which the trunk stops halving its maps


def trunk(side: int, width: int, widest: int = 512) -> tuple[nn.Sequential, int]:
    """Return DCGAN's discriminator without its last layer, (N, 3, side, side) -> (N, D), and D.

    Convolutions of stride 2 with leaky ReLUs; all but the first have a batch norm.

    Args:
        side: side of the images in px.
        width: channels of the first map; each map after it has twice as many.
        widest: the largest number of channels.
    """
    layers: list[nn.Module] = []
    channels, outputs = 3, width
    while not layers or side > LAST:
        layers.append(nn.Conv2d(channels, outputs, 4, stride=2, padding=1, bias=not layers))
        if len(layers) > 1:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.LeakyReLU(0.2))
        channels, outputs, side = outputs, min(widest, 2 * outputs), side // 2
    dcgan_init(layers)
    return nn.Sequential(*layers, nn.Flatten()), channels * side * side


def call_with_frozen_weights(part: nn.Module, *inputs: Tensor) -> Tensor:
    """Return the output of `part`, with gradients for the inputs but not for its weights."""
    weights = {name: weight.detach() for name, weight in part.named_parameters()}
    return torch.func.functional_call(part, weights, inputs)


def gan_bce(logits: Tensor, real: bool) -> Tensor:
    """Return the binary cross-entropy of logits (N, 1) that all have the label `real`."""
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def discriminator_accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Return the share of logits (N, 1) with the correct sign; 0.5 means guessing."""
    return torch.cat((real > 0, fake <= 0)).float().mean()
