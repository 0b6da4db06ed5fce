"""Supervised training: the labels, the upper bound of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.stage.backbone_option import BackboneOption
from transfer.stage.base import DatasetInfo, ImageInput
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext
from transfer.transforms.geometry import random_resized_crop
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class Supervised(Pretext):
    """Which class does the image belong to? As people have labeled it.

    Loss: cross-entropy over the classes, images cropped and mirrored at random. Source: the recipe of the target
    network (`target/pseudo_label`), so that the two differ in their labels alone.
    Trap: labels are taken by the image's row in the set, never by its place in a batch.
    """

    images = {"images": ImageInput("train", needs_labels=True)}
    needs = "labels"

    backbone: BackboneOption = option("alexnet", "the network (see `transfer list backbones`)")
    crop: float = option(
        0.08, "smallest share of an image's area that a crop keeps; 1: the whole image", gt=0, le=1
    )
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)

    def chance(self, about: DatasetInfo) -> float:
        return 1 / max(1, about.classes)

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """One output a class, on the backbone's last layer."""
        width = 1
        for side in backbone.shapes(about.size)[backbone.layer_names[-1]]:
            width *= side
        network = nn.ModuleDict(
            {"backbone": backbone, "head": nn.Linear(width, max(1, about.classes))}
        )
        network.register_buffer("labels", torch.zeros(about.count, dtype=torch.int64))
        return network

    def begin(self, network: nn.ModuleDict, context: StageContext) -> None:
        labels = context.images["images"].labels
        if labels is None or labels.min() < 0:
            raise TransferError(
                "not every image has a label, and this task learns them: take a set or split with labels"
            )
        if labels.min() == labels.max():
            raise TransferError("all images have one label: there is nothing to classify")
        network.labels.copy_(torch.from_numpy(labels))

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seen = normalize(self.augment(images, rng), self.normalization)
        logits = network["head"](network["backbone"](seen).flatten(1)).float()
        labels = network.labels[rng.ids]
        return F.cross_entropy(logits, labels), {
            "accuracy": (logits.argmax(1) == labels).float().mean()
        }

    def augment(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """(B, 3, S, S) float in [0, 1]: a random part of each image at its size, mirrored or not."""
        return random_resized_crop(images, rng, images.shape[-1], (self.crop, 1.0), flip=self.flip)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image, and crops of it as different epochs draw them."""
        return {"image": images, **{f"crop {i + 1}": self.augment(images, rng) for i in range(3)}}
