"""Upside down: a task of two answers, of a package that this project knows nothing of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.stage.base import option
from transfer.training.pretext_task import About, Pretext, read, read_width
from transfer.transforms.normalize import normalise
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.transforms.per_image_rng import Draw


class UpsideDown(Pretext):
    """Does the image stand on its head?"""

    paper = "Stranger, unpublished"
    needs = "upright images"

    share: float = option(0.5, "of the images that are turned", gt=0, lt=1)

    def chance(self, about: About) -> float:
        return max(self.share, 1 - self.share)

    def network(self, backbone: Network, about: About) -> nn.ModuleDict:
        return nn.ModuleDict(
            {"backbone": backbone, "head": nn.Linear(read_width(backbone, about.size), 2)}
        )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, draw: Draw
    ) -> tuple[Tensor, dict[str, Tensor]]:
        turned = draw.chance(self.share)
        shown = torch.where(turned[:, None, None, None], images.flip(2, 3), images)
        logits = network["head"](read(network["backbone"], normalise(shown, self.normalisation)))
        return F.cross_entropy(logits, turned.long()), {
            "accuracy": (logits.argmax(1) == turned).float().mean()
        }
