"""Relational reasoning (Patacchiola & Storkey, NeurIPS 2020): do two views show the same image?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._multi_view import check_views, smallest_part
from transfer.errors import TransferError
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.normalize import normalize
from transfer.transforms.simclr_views import SimCLRViews
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

KEPT = 5  # arrays of a value for each pair and hidden unit that a step holds at once, at least


class Relational(Pretext):
    """K views of each image; a small network is asked of pairs of views whether they are of one image.

    Pairs: any two views of an image, and as many of two images: the second view's images moved on by 1, 2, ... places,
    another number for each two views. Loss: binary cross-entropy, by default focal (hard pairs weigh more).
    Source: the paper and its released code: Adam at 1e-3 throughout, no weight decay, K = 32, batches of 64. Colors
    are normalized as everywhere here, not by each set's own statistics.
    Traps: images moved on by a whole batch would make negatives of one image. Which image is next is decided by their
    numbers, not by their places in the batch. The head's first layer is linear, so it is applied to each view once and
    pairs are sums of what comes out, twice instead of 2 (K - 1) times for each view (not with `max`, which is not
    linear).
    """

    paper = "Patacchiola & Storkey, NeurIPS 2020"
    smoke = {**Pretext.smoke, "views": 4}

    views: int = option(32, "views of each image (K)", ge=2)
    aggregation: Literal["concatenation", "sum", "mean", "max"] = option(
        "concatenation", "what makes one of two views"
    )
    hidden_dim: int = option(256, "values of the relation head's hidden layer", ge=1)
    focal_gamma: float = option(
        2.0, "power by which easy pairs lose weight; 0: plain binary cross-entropy", ge=0
    )
    crop: float = option(0.08, "smallest share of an image's area that a view shows", gt=0, le=1)

    epochs: int = option(200, "passes over the images", ge=0)
    batch_size: int = option(
        64, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option("adam", "SGD has Nesterov momentum")
    learning_rate: float = option(1e-3, "the highest it gets", gt=0)
    weight_decay: float = option(0.0, "on weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "constant", "of the learning rate, after the warm-up"
    )

    def validate_plan(self, planned: PlannedStage) -> None:
        """A batch has negatives."""
        check_batch(self, planned, "half of the pairs are of two images")

    def chance(self, about: DatasetInfo) -> float:
        return 0.5

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """The backbone and the relation head."""
        width = backbone_feature_dim(backbone, about.size) * (
            2 if self.aggregation == "concatenation" else 1
        )
        relation = nn.Sequential(
            nn.Linear(width, self.hidden_dim, bias=False),
            nn.BatchNorm1d(self.hidden_dim),  # which would cancel a bias
            nn.LeakyReLU(),
            nn.Linear(self.hidden_dim, 1),
        )
        return nn.ModuleDict({"backbone": backbone, "relation": relation})

    def begin(self, network: nn.ModuleDict, context: StageContext) -> None:
        """The pairs fit into memory: their number grows with the square of K."""
        part = smallest_part(self, len(context.images["images"]))
        values = self.views * (self.views - 1) * part * self.hidden_dim
        wanted, there = KEPT * 4 * values, memory(context.runtime.device)
        if there and wanted > there:
            raise TransferError(
                f"{self.views} views of {part} images make {values // self.hidden_dim:,} pairs, which take more than "
                f"{wanted / 1e9:.0f} GB; there are {there / 1e9:.0f}: lower `views` or `batch`, or raise `accumulate`"
            )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seen = normalize(self.see(images, rng), self.normalization)
        features = backbone_features(network["backbone"], seen).unflatten(
            0, (self.views, len(images))
        )
        features = features.index_select(1, rng.ids.argsort())
        logits = self.relate(network["relation"], features)
        same = torch.zeros_like(logits)
        same[: len(logits) // 2] = 1
        loss = F.binary_cross_entropy_with_logits(logits, same, reduction="none")
        if self.focal_gamma:
            # exp(-loss) is the probability of the right answer; a half is the weight of either answer (alpha).
            loss = 0.5 * loss * (-torch.expm1(-loss)).clamp(min=1e-6) ** self.focal_gamma
        return loss.mean(), {"accuracy": ((logits > 0) == same.bool()).float().mean()}

    def relate(self, relation: nn.Sequential, features: Tensor) -> Tensor:
        """(K, B, D) to float32 logits (pairs,): first all pairs of one image, then as many of two."""
        one, two, others = pairs(*features.shape[:2], features.device)
        first, *rest = relation
        if self.aggregation == "max":
            flat = features.flatten(0, 1)
            left = F.embedding(one, flat)
            joined = first(
                torch.stack(
                    [torch.maximum(left, F.embedding(right, flat)) for right in (two, others)]
                )
            )
        else:
            left, right = self.halves(first, features.flatten(0, 1))
            left = F.embedding(one, left)
            joined = torch.stack(
                [left + F.embedding(two, right), left + F.embedding(others, right)]
            )
        return nn.Sequential(*rest)(joined.flatten(0, 1)).squeeze(1).float()

    def halves(self, first: nn.Linear, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layer makes of views (N, D) as a pair's left and as its right one: the pair's is their sum."""
        if self.aggregation == "concatenation":
            left, right = first.weight.chunk(2, dim=1)
            return F.linear(rows, left), F.linear(rows, right)
        either = first(rows if self.aggregation == "sum" else rows / 2)
        return either, either

    def see(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """(K * B, 3, S, S) float: all first views, then all second ones, and so on."""
        make = SimCLRViews(images.shape[-1], scale=(self.crop, 1.0), blur=0.0)
        return check_views(make, images, rng, self.views)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image and some of its views."""
        views = self.see(images, rng).unflatten(0, (self.views, len(images)))
        return {"image": images, **{f"view {i + 1}": view for i, view in enumerate(views[:4])}}


def pairs(views: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of (views * size) features, view by view: of each pair's left, of its right, and of the negative's right.

    Each (views * (views - 1) / 2 * size,) int64. The negative's is view j shifted by 1 .. size - 1 places, in turn.
    """
    one, two = torch.triu_indices(views, views, 1, device=device)[:, :, None]
    row = torch.arange(size, device=device)
    shift = torch.arange(len(one), device=device)[:, None] % max(1, size - 1) + 1
    found = one * size + row, two * size + row, two * size + (row - shift) % size
    return tuple(rows.flatten() for rows in found)


def memory(device: torch.device) -> int:
    """Bytes of memory: free on a GPU, in all on a CPU; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
