"""Upside down: a task of two answers, of a package that this project knows nothing of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.transforms.per_image_rng import PerImageRng


class UpsideDown(Pretext):
    """Does the image stand on its head?"""

    paper = "Stranger, unpublished"
    needs = "upright images"

    share: float = option(0.5, "of the images that are turned", gt=0, lt=1)

    def chance(self, about: DatasetInfo) -> float:
        return max(self.share, 1 - self.share)

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        return nn.ModuleDict(
            {"backbone": backbone, "head": nn.Linear(backbone_feature_dim(backbone, about.size), 2)}
        )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        turned = rng.chance(self.share)
        shown = torch.where(turned[:, None, None, None], images.flip(2, 3), images)
        logits = network["head"](
            backbone_features(network["backbone"], normalize(shown, self.normalization))
        )
        return F.cross_entropy(logits, turned.long()), {
            "accuracy": (logits.argmax(1) == turned).float().mean()
        }
