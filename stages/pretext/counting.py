"""Learning to count (Noroozi, Pirsiavash & Favaro, ICCV 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.pretext._batch_partners import check_batch, partners
from stages.pretext._mlp_head import fully_connected
from transfer.errors import InvalidOption
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.color import mix_colors, to_float
from transfer.transforms.geometry import random_flip, tiles
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng

# How an image is halved: by areas, and by two kernels of interpolation that take all pixels into account.
FILTERS = (
    {"mode": "area"},
    {"mode": "bilinear", "antialias": True},
    {"mode": "bicubic", "antialias": True},
)


class Counting(Pretext):
    """What is counted in the four quarters of an image is what is counted in the whole: the counts add up.

    The counts are a vector of numbers not below zero. Loss, of the image x, its quarters T and another image y of the
    batch, both halved by D:
    |count(Dx) - sum of count(Tx)|^2 + max(0, margin - |count(Dy) - sum of count(Tx)|^2).
    The trap: to count nothing adds up too, so another image's counts must differ. The margin is on the squared length
    of the whole difference, not on each number. Whole and quarter are of one size, so that size tells nothing; nor do
    the filter that halves (a random one) and color fringes (half of the images are gray).
    `accuracy` is the share of images whose own counts are nearer to the sum than the other image's.
    Constants: margin, counts and gray share as published; 7/8 of the image are 224 of 256 px; the optimizer is ours.
    """

    paper = "Noroozi, Pirsiavash & Favaro, ICCV 2017"

    crop_size: int | None = option(
        None, "side of the random part that is used, in even px; none: 7/8 of the image's", ge=8
    )
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)
    grayscale: float = option(0.5, "share of images made gray", ge=0, le=1)
    margin: float = option(
        10.0, "squared length by which another image's counts are to differ", gt=0
    )
    counts: int = option(1000, "numbers that are counted", ge=1)
    hidden_dim: int = option(
        4096, "values of each of the head's two hidden layers; 0: no such layers", ge=0
    )

    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option("adam", "SGD has Nesterov momentum")
    learning_rate: float = option(1e-4, "the highest it gets", gt=0)

    def validate_plan(self, planned: PlannedStage) -> None:
        """The part fits the images and has four quarters; there is another image to compare with."""
        self.side(planned.images["images"].stage.size)
        check_batch(self, planned, "an image's counts are compared with another's of the batch")

    def side(self, size: int) -> int:
        """Side of the part that is used of images of `size` px; BadOption where there is none."""
        side = self.crop_size or 2 * (size * 7 // 16)
        if side > size or side % 2:
            raise InvalidOption(
                "crop_size",
                f"no part of {side} px of images of {size} px: it must be even and fit into them",
            )
        return side

    def chance(self, about: DatasetInfo) -> float:
        return 0.5

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        width = backbone_feature_dim(backbone, self.side(about.size) // 2)
        count = nn.Sequential(
            fully_connected(width, self.hidden_dim, self.counts, batch_norm=False), nn.ReLU()
        )
        return nn.ModuleDict({"backbone": backbone, "count": count})

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if len(images) < 2:
            raise ValueError(
                "counting compares an image with another of the batch: it needs two images or more"
            )
        inputs = normalize(self.wholes_and_quarters(images, rng), self.normalization)
        # Squares of sums of a thousand numbers: not in bfloat16.
        counts = (
            network["count"](backbone_features(network["backbone"], inputs.flatten(0, 1)))
            .float()
            .unflatten(0, (-1, 5))
        )
        whole, total = counts[:, 0], counts[:, 1:].sum(dim=1)
        own = (whole - total).square().sum(dim=1)
        # A look-up, not an indexing: its gradient is summed in the same order on any number of threads.
        other = (F.embedding(partners(rng), whole) - total).square().sum(dim=1)
        loss = (own + (self.margin - other).clamp(min=0)).mean()
        return loss, {
            "accuracy": (own < other).float().mean(),
            "own": own.mean(),
            "other": other.mean(),
        }

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image, its part halved, and the part's quarters."""
        names = ("halved", "upper left", "upper right", "lower left", "lower right")
        inputs = self.wholes_and_quarters(images, rng)
        return {"image": images, **{name: inputs[:, place] for place, name in enumerate(names)}}

    def wholes_and_quarters(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """(B, 3, S, S) uint8 to (B, 5, 3, side / 2, side / 2) float: the part halved, then its quarters."""
        side = self.side(images.shape[-1])
        corner = rng.integers(images.shape[-1] - side + 1, 1, 2)
        part = to_float(random_flip(tiles(images, 1, 1, side, corner)[:, 0], rng, self.flip))
        gray = torch.where(
            rng.chance(self.grayscale)[:, None, None], 1 / 3, torch.eye(3, device=images.device)
        )
        part = mix_colors(part, gray)
        halved, chosen = (
            part.new_empty(len(part), 3, side // 2, side // 2),
            rng.integers(len(FILTERS)),
        )
        for number, how in enumerate(FILTERS):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                halved.index_copy_(
                    0, rows, F.interpolate(part[rows], size=side // 2, **how).clamp(0, 1)
                )
        return torch.cat((halved[:, None], tiles(part, 2, 2, side // 2)), dim=1)
