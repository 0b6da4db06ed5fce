"""Autoencoder (Hinton & Salakhutdinov, Science 2006), denoising too (Vincent et al., ICML 2008)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from stages.pretext._decoder import decoder, deepest_map, deepest_map_shape
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.color import to_float
from transfer.transforms.geometry import random_flip
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.transforms.per_image_rng import PerImageRng


class Autoencoder(Pretext):
    """Draw the image again from the few numbers that the network made of it.

    Loss: the mean squared error of normalized pixels, so that 1 is about what the mean color alone gets. `noise` and
    `mask` spoil the input, never the goal: a denoising autoencoder. Sources: Hinton & Salakhutdinov (2006); Vincent et
    al. (2008). There is no published recipe for networks of today: all defaults are ours.
    The trap: a code as large as the image can copy it and learn nothing. `bottleneck` keeps it small, spoiling the
    input makes a copy wrong.
    """

    paper = "Hinton & Salakhutdinov, Science 2006; denoising: Vincent et al., ICML 2008"

    batch_size: int = option(
        128, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option("adam", "SGD has Nesterov momentum")
    learning_rate: float = option(1e-3, "the highest it gets", gt=0)
    weight_decay: float = option(0.0, "on weights; biases and norms have none", ge=0)
    bottleneck: int | None = option(
        256, "numbers an image goes through; none: the backbone's deepest map itself", ge=1
    )
    noise: float = option(
        0.0, "deviation of the Gaussian noise on the input, of a range of 0 to 1 (usual: 0.1)", ge=0
    )
    mask_ratio: float = option(
        0.0, "share of the input's pixels that become the mean color (usual: 0.25)", ge=0, lt=1
    )
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)
    decoder_width: int = option(
        64, "channels of the decoder's last hidden map; each one before it has twice as many", ge=1
    )

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """The backbone, the code that it is squeezed into, and the decoder."""
        if self.bottleneck is None:
            shape, code = deepest_map_shape(backbone, about.size), nn.Identity()
        else:
            shape, code = (
                (self.bottleneck,),
                nn.Linear(backbone_feature_dim(backbone, about.size), self.bottleneck),
            )
        return nn.ModuleDict(
            {
                "backbone": backbone,
                "code": code,
                "decoder": decoder(shape, about.size, width=self.decoder_width),
            }
        )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        wanted, seen = self.pair(images, rng)
        encode = deepest_map if self.bottleneck is None else backbone_features
        drawn = network["decoder"](network["code"](encode(network["backbone"], seen)))
        return F.mse_loss(drawn.float(), wanted), {}

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: what is wanted, and what the network is shown."""
        wanted, seen = self.pair(images, rng)
        return {"wanted": wanted, "shown": seen}

    def pair(self, images: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) uint8 to what is wanted and what is shown, both normalized, of the same shape."""
        images = to_float(random_flip(images, rng, self.flip))
        wanted = seen = normalize(images, self.normalization)
        if self.noise:
            seen = normalize(
                images + self.noise * gaussian(rng, *images.shape[1:]), self.normalization
            )
        if self.mask_ratio:
            dropped = rng.chance(self.mask_ratio, 1, *images.shape[2:])
            seen = seen.masked_fill(dropped, 0.0)  # normalized, the mean color is zero
        return wanted, seen


def gaussian(rng: PerImageRng, *shape: int) -> Tensor:
    """(B, *shape) from N(0, 1), by Box and Muller's transform of uniform numbers."""
    half = -(-math.prod(shape) // 2)
    radius, angle = rng.uniform(2, half).unbind(1)
    radius = (-2 * torch.log1p(-radius)).sqrt()
    both = torch.cat(
        (radius * (2 * math.pi * angle).cos(), radius * (2 * math.pi * angle).sin()), 1
    )
    return both[:, : math.prod(shape)].unflatten(1, shape)
