"""Context encoders (Pathak, Krähenbühl, Donahue, Darrell & Efros, CVPR 2016): inpainting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._decoder import dcgan_init, decoder
from stages.pretext._gan import call_with_frozen_weights, discriminator_accuracy, gan_bce, trunk
from transfer.errors import InvalidOption
from transfer.stage.image_input import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.training.recipe import PartRecipe
from transfer.transforms.color import to_float
from transfer.transforms.geometry import random_flip
from transfer.transforms.normalize import normalize
from transfer.transforms.tiles import tiles
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng

CELL = 1 / 0.06  # px of a cell of the noise behind random regions: 0.06 in the released code
OVERLAP_WEIGHT = 10  # weight of the squared error in the seam


class Inpainting(Pretext):
    """Predict the hidden part of the image from its surroundings.

    Loss: 0.999 of the squared error and 0.001 of an adversarial loss. The discriminator is trained
    on its own loss in the same step, at a tenth of the learning rate. A seam of `overlap` px is
    both shown and predicted, and its error has ten times the weight, so that the prediction fits
    its surroundings. Source: Pathak et al. (2016) and their released code, whose bottleneck of 100
    is not the published one of 4,000. The mask hides the center, or regions of any shape: noise of
    17 px a cell, cut at the level that hides `mask_ratio` of each image. With these the decoder
    predicts the whole image. Epochs are ours, and random regions are encoded like the center, not
    through a channel-wise layer.
    The trap: with a mask whose edge is the same for all images, the network can look at the edge
    alone; random regions have no such edge. The batch norms see all images of a batch together.
    """

    paper = "Pathak, Krähenbühl, Donahue, Darrell & Efros, CVPR 2016"
    part_recipes = {"discriminator": PartRecipe(scale=0.1)}

    defaults: ClassVar[dict[str, Any]] = {
        "batch_size": 64,
        "optimizer": "adam",
        "momentum": 0.5,
        "weight_decay": 0.0,
        "schedule": "constant",
    }
    learning_rate: float = option(
        2e-3, "peak learning rate; the discriminator's is a tenth of it", gt=0
    )
    mask: Literal["center", "random"] = option(
        "center", "center: a block of half the image's side; random: regions of any shape"
    )
    mask_ratio: float = option(
        0.25, "share of an image that is hidden", applies_when={"mask": ["random"]}, gt=0, lt=1
    )
    overlap: int | None = option(
        None,
        "width of the seam in px; none: 1/32 of the image's side (4 of 128 px, as published)",
        ge=0,
    )
    adversarial: float = option(
        0.001, "weight of the adversarial loss; the squared error has the rest", ge=0, lt=1
    )
    bottleneck: int = option(4000, "values of an image's code", ge=1)
    flip: float = option(0.5, "share of images that are mirrored", ge=0, le=1)
    decoder_width: int = option(
        64, "channels of the decoder's last hidden map and of the discriminator's first", ge=1
    )

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise for a seam that leaves nothing hidden, or a batch with parts of one image."""
        size = planned.images["images"].stage.size
        if self.mask == "center" and self.hidden_side(size) < 1:
            raise InvalidOption(
                "overlap",
                f"a seam of {self.seam(size)} px leaves nothing hidden of the {size // 2} px in "
                f"the center of images of {size} px: use {max(0, (size // 2 - 1) // 2)} px or less",
            )
        check_batch(self, planned, "the bottleneck's batch norm goes over the images of a batch")

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return backbone, bottleneck, decoder, and discriminator unless `adversarial` is 0."""
        bottleneck = nn.Sequential(
            nn.Linear(backbone_feature_dim(backbone, dataset.size), self.bottleneck, bias=False),
            nn.BatchNorm1d(self.bottleneck),
            nn.LeakyReLU(0.2),
        )
        dcgan_init(bottleneck)
        side = self.window(dataset.size)[1]
        parts = {
            "backbone": backbone,
            "bottleneck": bottleneck,
            "decoder": decoder((self.bottleneck,), side, width=self.decoder_width),
        }
        if self.adversarial:
            body, width = trunk(side, self.decoder_width)
            last = nn.Linear(width, 1)
            dcgan_init([last])
            parts["discriminator"] = nn.Sequential(*body, last)
        return nn.ModuleDict(parts)

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, target, hidden, region = self.puzzle(images, rng)
        code = network["bottleneck"](backbone_features(network["backbone"], inputs))
        decoded = torch.tanh(network["decoder"](code).float())
        corner, side = self.window(images.shape[-1])
        window = (..., slice(corner, corner + side), slice(corner, corner + side))
        target, hidden, region = 2 * target[window] - 1, hidden[window], region[window]
        weights = torch.where(hidden, 1.0, OVERLAP_WEIGHT) * region
        squares = ((decoded - target) ** 2).mean(1, keepdim=True) * weights
        squared = (squares.sum((1, 2, 3)) / region.sum((1, 2, 3))).mean()
        if not self.adversarial:
            return squared, {}
        # See `_gan`: one backward pass, and each part gets its own gradients.
        discriminator = network["discriminator"]
        filled = torch.where(region, decoded, target)
        real, fake = discriminator(target), discriminator(filled.detach())
        generator_loss = gan_bce(call_with_frozen_weights(discriminator, filled), real=True)
        discriminator_loss = gan_bce(real, real=True) + gan_bce(fake, real=False)
        loss = (1 - self.adversarial) * squared + self.adversarial * generator_loss
        figures = {
            "squared error": squared,
            "adversarial": generator_loss,
            "discriminator accuracy": discriminator_accuracy(real, fake),
        }
        return loss + discriminator_loss, figures

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image, the network's input, and the predicted part on black."""
        inputs, target, _, region = self.puzzle(images, rng)
        return {"image": target, "input": inputs, "predicted": target * region}

    def puzzle(self, images: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hide a part of each (B, 3, S, S) uint8 image.

        Return the encoder's input (normalized), the image in [0, 1], and two masks (B, 1, S, S)
        bool: the hidden part, and the predicted part, which is the hidden part and its seam.
        """
        target = to_float(random_flip(images, rng, self.flip))
        size = images.shape[-1]
        if self.mask == "center":
            hidden = self.center_mask(target)
        else:
            hidden = self.random_mask(target, rng)
        seam = self.seam(size)
        region = F.max_pool2d(hidden.float(), 2 * seam + 1, stride=1, padding=seam) > 0
        # 0 is the mean color of normalized images.
        inputs = normalize(target, self.normalization).masked_fill(hidden, 0.0)
        return inputs, target, hidden, region

    def center_mask(self, images: Tensor) -> Tensor:
        """Return (B, 1, S, S) bool: the center block without its seam."""
        hidden = torch.zeros_like(images[:, :1], dtype=torch.bool)
        side = self.hidden_side(images.shape[-1])
        first = (images.shape[-1] - side) // 2
        hidden[..., first : first + side, first : first + side] = True
        return hidden

    def random_mask(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Return (B, 1, S, S) bool: the lowest `mask_ratio` of smooth noise in each image."""
        size = images.shape[-1]
        cells = math.ceil(size / CELL) + 1
        noise = F.interpolate(
            rng.uniform(1, cells, cells), size=round(cells * CELL), mode="bicubic"
        )
        corners = rng.integers(noise.shape[-1] - size + 1, 1, 2)
        noise = tiles(noise, 1, 1, size, corners)[:, 0]
        count = max(1, round(self.mask_ratio * size * size))
        return noise <= noise.flatten(1).kthvalue(count)[0][:, None, None, None]

    def seam(self, size: int) -> int:
        """Return the width of the seam in px."""
        return size // 32 if self.overlap is None else self.overlap

    def hidden_side(self, size: int) -> int:
        """Return the side of the hidden center block in px."""
        return size // 2 - 2 * self.seam(size)

    def window(self, size: int) -> tuple[int, int]:
        """Return the first row and the side of the square that the decoder predicts, in px."""
        return ((size - size // 2) // 2, size // 2) if self.mask == "center" else (0, size)
