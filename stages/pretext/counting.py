"""Learning to count (Noroozi, Pirsiavash & Favaro, ICCV 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stages.pretext._batch_partners import check_batch, partners
from stages.pretext._mlp_head import fully_connected
from transfer.errors import InvalidOption
from transfer.stage.image_input import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.color import mix_colors, to_float
from transfer.transforms.geometry import random_flip
from transfer.transforms.normalize import normalize
from transfer.transforms.tiles import tiles
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng

# Mode and antialias of the filters that halve an image; all of them use all pixels.
FILTERS = (("area", False), ("bilinear", True), ("bicubic", True))


class Counting(Pretext):
    """The counts of an image equal the sum of the counts of its four quarters.

    The counts are a vector of non-negative numbers. Loss, for the image x, its quarters T and
    another image y of the batch, both halved by D:
    |count(Dx) - sum of count(Tx)|^2 + max(0, margin - |count(Dy) - sum of count(Tx)|^2).
    The trap: counts of zero satisfy the sum too, so another image's counts must differ. The margin
    applies to the squared length of the whole difference, not to each number. Whole and quarter
    have the same size, so that size is no sign; neither is the filter that halves (a random one),
    nor are color fringes (half of the images are gray).
    `accuracy` is the share of images whose own counts are nearer to the sum than the other image's.
    Constants: margin, counts and gray share as published; 7/8 of the image are 224 of 256 px; the
    optimizer is ours.
    """

    paper = "Noroozi, Pirsiavash & Favaro, ICCV 2017"

    crop_size: int | None = option(
        None, "side of the random crop in px, even; none: 7/8 of the image's side", ge=8
    )
    flip: float = option(0.5, "share of images that are mirrored", ge=0, le=1)
    grayscale: float = option(0.5, "share of images that are made gray", ge=0, le=1)
    margin: float = option(
        10.0, "least squared length of the difference to another image's counts", gt=0
    )
    counts: int = option(1000, "values of a vector of counts", ge=1)
    hidden_dim: int = option(
        4096, "units of each of the head's two hidden layers; 0: no hidden layers", ge=0
    )

    defaults: ClassVar[dict[str, Any]] = {"optimizer": "adam", "learning_rate": 1e-4}

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise for a crop that does not fit, or a batch without another image."""
        self.side(planned.images["images"].stage.size)
        check_batch(self, planned, "an image's counts are compared with another's of the batch")

    def side(self, size: int) -> int:
        """Return the side of the crop of images of `size` px; InvalidOption where it is invalid."""
        side = self.crop_size or 2 * (size * 7 // 16)
        if side > size or side % 2:
            raise InvalidOption(
                "crop_size",
                f"{side} px for images of {size} px: it must be even and at most {size}",
            )
        return side

    def chance(self, dataset: DatasetInfo) -> float:
        return 0.5

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the backbone and the head, whose outputs are the counts."""
        width = backbone_feature_dim(backbone, self.side(dataset.size) // 2)
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
        features = backbone_features(network["backbone"], inputs.flatten(0, 1))
        # In float32, because bfloat16 is too coarse for squares of sums of a thousand numbers.
        counts = network["count"](features).float().unflatten(0, (-1, 5))
        whole, total = counts[:, 0], counts[:, 1:].sum(dim=1)
        own = (whole - total).square().sum(dim=1)
        # A look-up sums its gradient in the same order on any number of threads; indexing does not.
        other = (F.embedding(partners(rng), whole) - total).square().sum(dim=1)
        loss = (own + (self.margin - other).clamp(min=0)).mean()
        return loss, {
            "accuracy": (own < other).float().mean(),
            "own": own.mean(),
            "other": other.mean(),
        }

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image, its halved crop, and the crop's quarters."""
        names = ("halved", "upper left", "upper right", "lower left", "lower right")
        inputs = self.wholes_and_quarters(images, rng)
        return {"image": images, **{name: inputs[:, place] for place, name in enumerate(names)}}

    def wholes_and_quarters(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Return a random crop of each image, halved, and its quarters.

        (B, 3, S, S) uint8 -> (B, 5, 3, side / 2, side / 2) float in [0, 1]; the quarters come last.
        """
        side = self.side(images.shape[-1])
        corner = rng.integers(images.shape[-1] - side + 1, 1, 2)
        crops = to_float(random_flip(tiles(images, 1, 1, side, corner)[:, 0], rng, self.flip))
        is_gray = rng.chance(self.grayscale)[:, None, None]
        crops = mix_colors(crops, torch.where(is_gray, 1 / 3, torch.eye(3, device=images.device)))
        halved = crops.new_empty(len(crops), 3, side // 2, side // 2)
        choice = rng.integers(len(FILTERS))
        for number, (mode, antialias) in enumerate(FILTERS):
            rows = (choice == number).nonzero()[:, 0]
            if len(rows):
                small = F.interpolate(crops[rows], size=side // 2, mode=mode, antialias=antialias)
                halved.index_copy_(0, rows, small.clamp(0, 1))
        return torch.cat((halved[:, None], tiles(crops, 2, 2, side // 2)), dim=1)
