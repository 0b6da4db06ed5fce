"""Upside down: a task of two answers, in a package that this project knows nothing of."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from transfer.plugin import (
    DatasetInfo,
    F,
    PerImageRng,
    Pretext,
    backbone_feature_dim,
    backbone_features,
    nn,
    normalize,
    option,
    torch,
)

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network


class UpsideDown(Pretext):
    """Is the image upside down?"""

    paper = "Third party, unpublished"
    needs = "upright images"

    share: float = option(0.5, "share of the images that are turned", gt=0, lt=1)

    def chance(self, dataset: DatasetInfo) -> float:
        return max(self.share, 1 - self.share)

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        width = backbone_feature_dim(backbone, dataset.size)
        return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(width, 2)})

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        turned = rng.chance(self.share)
        shown = torch.where(turned[:, None, None, None], images.flip(2, 3), images)
        inputs = normalize(shown, self.normalization)
        backbone = cast("Network", network["backbone"])
        logits = network["head"](backbone_features(backbone, inputs))
        accuracy = (logits.argmax(1) == turned).float().mean()
        return F.cross_entropy(logits, turned.long()), {"accuracy": accuracy}
