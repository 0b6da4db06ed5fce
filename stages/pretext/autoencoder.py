"""Autoencoder (Hinton & Salakhutdinov, Science 2006), and denoising (Vincent et al., ICML 2008)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from stages.pretext._decoder import decoder, deepest_map, deepest_map_shape
from transfer.stage.image_input import DatasetInfo
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
    """Reconstruct the image from the small code that the network computes.

    Loss: the mean squared error of normalized pixels; the mean color alone gets about 1. `noise`
    and `mask_ratio` corrupt the input but never the target: a denoising autoencoder. Sources:
    Hinton & Salakhutdinov (2006); Vincent et al. (2008). No recipe is published for current
    networks: all defaults are ours. The trap: a code as large as the image can copy it, and the
    network learns nothing. `bottleneck` keeps the code small; a corrupted input makes a copy wrong.
    """

    paper = "Hinton & Salakhutdinov, Science 2006; denoising: Vincent et al., ICML 2008"

    defaults: ClassVar[dict[str, Any]] = {
        "batch_size": 128,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
    }
    bottleneck: int | None = option(
        256, "values of an image's code; none: the backbone's deepest map itself", ge=1
    )
    noise: float = option(
        0.0,
        "standard deviation of the Gaussian noise on inputs from 0 to 1 (usual: 0.1)",
        ge=0,
    )
    mask_ratio: float = option(
        0.0, "share of the input's pixels that become the mean color (usual: 0.25)", ge=0, lt=1
    )
    flip: float = option(0.5, "share of images that are mirrored", ge=0, le=1)
    decoder_width: int = option(
        64, "channels of the decoder's last hidden map; each map before it has twice as many", ge=1
    )

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the backbone, the layer that computes the code, and the decoder."""
        shape: tuple[int, ...]
        if self.bottleneck is None:
            shape, code = deepest_map_shape(backbone, dataset.size), nn.Identity()
        else:
            shape = (self.bottleneck,)
            code = nn.Linear(backbone_feature_dim(backbone, dataset.size), self.bottleneck)
        return nn.ModuleDict(
            {
                "backbone": backbone,
                "code": code,
                "decoder": decoder(shape, dataset.size, width=self.decoder_width),
            }
        )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        target, inputs = self.pair(images, rng)
        encode = deepest_map if self.bottleneck is None else backbone_features
        decoded = network["decoder"](network["code"](encode(network["backbone"], inputs)))
        return F.mse_loss(decoded.float(), target), {}

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The target, and the input of the network."""
        target, inputs = self.pair(images, rng)
        return {"target": target, "input": inputs}

    def pair(self, images: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """Return the target and the input for (B, 3, S, S) uint8 images, both normalized."""
        images = to_float(random_flip(images, rng, self.flip))
        target = inputs = normalize(images, self.normalization)
        if self.noise:
            noisy = images + self.noise * gaussian(rng, *images.shape[1:])
            inputs = normalize(noisy, self.normalization)
        if self.mask_ratio:
            masked = rng.chance(self.mask_ratio, 1, *images.shape[2:])
            inputs = inputs.masked_fill(masked, 0.0)  # the mean color of normalized images
        return target, inputs


def gaussian(rng: PerImageRng, *shape: int) -> Tensor:
    """Draw (B, *shape) from N(0, 1) by the Box-Muller transform of uniform numbers."""
    half = -(-math.prod(shape) // 2)
    radius, angle = rng.uniform(2, half).unbind(1)
    radius = (-2 * torch.log1p(-radius)).sqrt()
    both = torch.cat(
        (radius * (2 * math.pi * angle).cos(), radius * (2 * math.pi * angle).sin()), 1
    )
    return both[:, : math.prod(shape)].unflatten(1, shape)
