"""Context encoders (Pathak, Krähenbühl, Donahue, Darrell & Efros, CVPR 2016): fill in what is hidden."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._decoder import dcgan_init, decoder
from stages.pretext._gan import call_with_frozen_weights, discriminator_accuracy, gan_bce, trunk
from transfer.errors import InvalidOption
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.color import to_float
from transfer.transforms.geometry import random_flip, tiles
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng

CELL = (
    1 / 0.06
)  # px of the noise that random regions are made of: a resolution of 0.06 in the released code
OVERLAP_WEIGHT = 10


class Inpainting(Pretext):
    """Draw the part of the image that is hidden from what is around it.

    Loss: 0.999 of the squared error and 0.001 of an adversarial loss; the discriminator learns its own beside it, at a
    tenth of the rate. A seam of `overlap` px is shown and drawn too, and counts ten times, so that what is drawn
    fits its surroundings. Source: Pathak et al. (2016) and their released code, whose bottleneck of 100 is not the
    published one of 4,000. Hidden are the middle, or regions of any shape: noise of 17 px a cell, cut at the level that
    hides `density` of each image; what is drawn then is the whole image. Epochs are ours, and random regions are
    encoded like the middle, not through a channel-wise layer.
    The trap: an image that is hidden by a mask with one edge for all lets the network look at the edge alone; random
    regions have none. The batch norms see all images of a batch together.
    """

    paper = "Pathak, Krähenbühl, Donahue, Darrell & Efros, CVPR 2016"
    lr_scales: ClassVar[dict[str, float]] = {"discriminator": 0.1}

    batch_size: int = option(
        64, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option("adam", "SGD has Nesterov momentum")
    learning_rate: float = option(
        2e-3, "the highest it gets; the discriminator's is a tenth of it", gt=0
    )
    momentum: float = option(0.5, "of SGD and LARS; of Adam, its first beta", ge=0, lt=1)
    weight_decay: float = option(0.0, "on weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "constant", "of the learning rate, after the warm-up"
    )
    mask: Literal["center", "random"] = option(
        "center", "the middle block, of half the side, or random regions"
    )
    mask_ratio: float = option(
        0.25, "share of an image that is hidden", applies_when={"mask": ["random"]}, gt=0, lt=1
    )
    overlap: int | None = option(
        None, "px of the seam; none: a 32nd of the side (4 of 128 px, as published)", ge=0
    )
    adversarial: float = option(
        0.001, "weight of the adversarial loss, the rest is the squared error's", ge=0, lt=1
    )
    bottleneck: int = option(4000, "numbers that an image goes through", ge=1)
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)
    decoder_width: int = option(
        64, "channels of the decoder's last hidden map and of the discriminator's first", ge=1
    )

    def validate_plan(self, planned: PlannedStage) -> None:
        """Something is hidden, and no part of a batch is a single image."""
        size = planned.images["images"].stage.size
        if self.mask == "center" and self.room(size) < 1:
            raise InvalidOption(
                "overlap",
                f"a seam of {self.seam(size)} px leaves nothing hidden of the {size // 2} px in the middle of images "
                f"of {size} px: {max(0, (size // 2 - 1) // 2)} px or less would",
            )
        check_batch(self, planned, "the bottleneck's batch norm goes over the images of a batch")

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """Encoder (backbone and bottleneck), decoder, and the discriminator where it is asked."""
        bottleneck = nn.Sequential(
            nn.Linear(backbone_feature_dim(backbone, about.size), self.bottleneck, bias=False),
            nn.BatchNorm1d(self.bottleneck),
            nn.LeakyReLU(0.2),
        )
        dcgan_init(bottleneck)
        side = self.window(about.size)[1]
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
        seen, wanted, hidden, region = self.puzzle(images, rng)
        code = network["bottleneck"](backbone_features(network["backbone"], seen))
        drawn = torch.tanh(network["decoder"](code).float())
        corner, side = self.window(images.shape[-1])
        cut = (..., slice(corner, corner + side), slice(corner, corner + side))
        wanted, hidden, region = 2 * wanted[cut] - 1, hidden[cut], region[cut]
        weights = torch.where(hidden, 1.0, OVERLAP_WEIGHT) * region
        squares = ((drawn - wanted) ** 2).mean(1, keepdim=True) * weights
        squared = (squares.sum((1, 2, 3)) / region.sum((1, 2, 3))).mean()
        if not self.adversarial:
            return squared, {}
        # See `_adversarial`: one backward pass, each part with its own gradients.
        judge, filled = network["discriminator"], torch.where(region, drawn, wanted)
        real, fake = judge(wanted), judge(filled.detach())
        fooling = gan_bce(call_with_frozen_weights(judge, filled), real=True)
        judging = gan_bce(real, real=True) + gan_bce(fake, real=False)
        loss = (1 - self.adversarial) * squared + self.adversarial * fooling + judging
        figures = {
            "squared error": squared,
            "adversarial": fooling,
            "told apart": discriminator_accuracy(real, fake),
        }
        return loss, figures

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image, what is shown of it, and what is drawn, the rest dark."""
        seen, wanted, _, region = self.puzzle(images, rng)
        return {"image": wanted, "shown": seen, "drawn": wanted * region}

    def puzzle(self, images: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, S, S) uint8 to what the encoder sees (normalized), the image in [0, 1], what is hidden, what is drawn.

        The last two are bool and (B, 1, S, S); what is drawn is what is hidden and the seam around it.
        """
        wanted = to_float(random_flip(images, rng, self.flip))
        size = images.shape[-1]
        hidden = self.middle(wanted) if self.mask == "center" else self.blots(wanted, rng)
        seam = self.seam(size)
        region = F.max_pool2d(hidden.float(), 2 * seam + 1, stride=1, padding=seam) > 0
        seen = normalize(wanted, self.normalization).masked_fill(
            hidden, 0.0
        )  # normalized, the mean color is zero
        return seen, wanted, hidden, region

    def middle(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) bool: the middle block but for its seam."""
        hidden = torch.zeros_like(images[:, :1], dtype=torch.bool)
        first = (images.shape[-1] - self.room(images.shape[-1])) // 2
        last = first + self.room(images.shape[-1])
        hidden[..., first:last, first:last] = True
        return hidden

    def blots(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """(B, 1, S, S) bool: where smooth noise is lowest, as many pixels of each image as `density` says."""
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
        return size // 32 if self.overlap is None else self.overlap

    def room(self, size: int) -> int:
        """Side of the hidden block in the middle."""
        return size // 2 - 2 * self.seam(size)

    def window(self, size: int) -> tuple[int, int]:
        """First row and side of what is drawn."""
        return ((size - size // 2) // 2, size // 2) if self.mask == "center" else (0, size)
