"""Relational reasoning (Patacchiola & Storkey, NeurIPS 2020): do two views show the same image?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._multi_view import smallest_part, stack_views
from transfer.errors import TransferError
from transfer.stage.image_input import DatasetInfo
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

STORED = 5  # the least number of (pairs, hidden units) float32 arrays that a step holds at once


class Relational(Pretext):
    """Do two views show the same image? A small head decides for pairs of K views of each image.

    Pairs: all pairs of views of an image, and as many of two images: in these, the images of the
    second view are shifted by 1, 2, ... places, another number for each pair of views. Loss: binary
    cross-entropy, by default focal (hard pairs weigh more).
    Source: the paper and its released code: Adam at 1e-3 throughout, no weight decay, K = 32,
    batches of 64. Colors are normalized as in all tasks here, not by each dataset's statistics.
    Traps: a shift by a whole batch would make negatives of one image. The batch is shuffled before
    the shift, or in a set that is sorted by class most negatives would show the same class; the
    shuffle depends on the images, not on their places in the batch. The head's first layer is
    linear, so it is applied to each view once, and a pair is the sum of two outputs: two products
    for each view instead of 2 (K - 1). With `max`, which is not linear, this is not possible.
    """

    paper = "Patacchiola & Storkey, NeurIPS 2020"
    version = 2  # 2: negatives are random whatever the order of the images
    smoke = {**Pretext.smoke, "views": 4}

    views: int = option(32, "views of each image (K)", ge=2)
    aggregation: Literal["concatenation", "sum", "mean", "max"] = option(
        "concatenation", "how the features of two views are combined"
    )
    hidden_dim: int = option(256, "units of the relation head's hidden layer", ge=1)
    focal_gamma: float = option(
        2.0, "exponent of the focal loss; 0: plain binary cross-entropy", ge=0
    )
    crop: float = option(0.08, "smallest share of an image's area that a view shows", gt=0, le=1)

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 200,
        "batch_size": 64,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "schedule": "constant",
    }

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise for a batch without negatives."""
        check_batch(self, planned, "half of the pairs are of two images")

    def chance(self, dataset: DatasetInfo) -> float:
        return 0.5

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the backbone and the relation head."""
        width = backbone_feature_dim(backbone, dataset.size)
        if self.aggregation == "concatenation":
            width *= 2
        relation = nn.Sequential(
            nn.Linear(width, self.hidden_dim, bias=False),
            nn.BatchNorm1d(self.hidden_dim),  # it would cancel a bias of the layer before
            nn.LeakyReLU(),
            nn.Linear(self.hidden_dim, 1),
        )
        return nn.ModuleDict({"backbone": backbone, "relation": relation})

    def begin(self, network: nn.ModuleDict, context: StageContext) -> None:
        """Raise TransferError where the pairs, whose number grows with K², exceed the memory."""
        part = smallest_part(self, len(context.images["images"]))
        pair_count = self.views * (self.views - 1) * part
        required = STORED * 4 * pair_count * self.hidden_dim
        available = available_memory(context.runtime.device)
        if available and required > available:
            raise TransferError(
                f"{self.views} views of {part} images make {pair_count:,} pairs, which take more "
                f"than {required / 1e9:.0f} GB of the {available / 1e9:.0f} GB of memory: "
                "lower `views` or `batch_size`, or raise `accumulation_steps`"
            )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        views = normalize(self.make_views(images, rng), self.normalization)
        features = backbone_features(network["backbone"], views)
        features = features.unflatten(0, (self.views, len(images)))
        # In a random order of the batch's images, which does not depend on their order on disk.
        features = features.index_select(1, rng.uniform().argsort())
        logits = self.relate(network["relation"], features)
        same = torch.zeros_like(logits)
        same[: len(logits) // 2] = 1
        loss = F.binary_cross_entropy_with_logits(logits, same, reduction="none")
        if self.focal_gamma:
            # exp(-loss) is the probability of the correct answer; 0.5 is the alpha of both answers.
            loss = 0.5 * loss * (-torch.expm1(-loss)).clamp(min=1e-6) ** self.focal_gamma
        return loss.mean(), {"accuracy": ((logits > 0) == same.bool()).float().mean()}

    def relate(self, relation: nn.Module, features: Tensor) -> Tensor:
        """Return float32 logits (pairs,) for features (K, B, D).

        The pairs of one image come first, then as many of two images.
        """
        views, batch, _ = features.shape
        left, right, other = pairs(views, batch, features.device)
        first, *rest = relation.children()
        flat = features.flatten(0, 1)
        if self.aggregation == "max":
            base = F.embedding(left, flat)
            joined = first(
                torch.stack(
                    [torch.maximum(base, F.embedding(rows, flat)) for rows in (right, other)]
                )
            )
        else:
            as_left, as_right = self.halves(first, flat)
            base = F.embedding(left, as_left)
            joined = torch.stack([base + F.embedding(rows, as_right) for rows in (right, other)])
        return nn.Sequential(*rest)(joined.flatten(0, 1)).squeeze(1).float()

    def halves(self, first: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the share of a pair's first-layer output of views (N, D), as left and right view.

        The output of a pair is the sum of the left view's and the right view's share.
        """
        assert isinstance(first, nn.Linear)  # as `network` builds it
        if self.aggregation == "concatenation":
            left, right = first.weight.chunk(2, dim=1)
            return F.linear(rows, left), F.linear(rows, right)
        either = first(rows if self.aggregation == "sum" else rows / 2)
        return either, either

    def make_views(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Return K views (K * B, 3, S, S) float: all first views, then all second views, ..."""
        make = SimCLRViews(images.shape[-1], scale=(self.crop, 1.0), blur=0.0)
        return stack_views(make, images, rng, self.views)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image and its first four views."""
        views = self.make_views(images, rng).unflatten(0, (self.views, len(images)))
        return {"image": images, **{f"view {i + 1}": view for i, view in enumerate(views[:4])}}


def pairs(views: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of (views * size) features: each pair's left, its right, its negative's right.

    Each is (views * (views - 1) / 2 * size,) int64; the features are ordered by view. The
    negative's right is the right view shifted by 1 .. size - 1 places, in turn.

    Args:
        views: views of each image, K.
        size: images of the batch, B.
        device: where the rows are made.
    """
    left, right = torch.triu_indices(views, views, 1, device=device)[:, :, None]
    row = torch.arange(size, device=device)
    shift = torch.arange(len(left), device=device)[:, None] % max(1, size - 1) + 1
    other = right * size + (row - shift) % size
    return (left * size + row).flatten(), (right * size + row).flatten(), other.flatten()


def available_memory(device: torch.device) -> int:
    """Return bytes of memory: free on a GPU, total on a CPU; 0 where the system hides it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
