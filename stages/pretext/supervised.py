"""Supervised training: the labels, the upper bound of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from transfer.datasets.packed.label_facts import class_counts
from transfer.errors import TransferError
from transfer.stage.backbone_option import BackboneOption
from transfer.stage.image_input import DatasetInfo, ImageInput
from transfer.stage.options import option
from transfer.training.crop_augment import RandomResizedCropAugment
from transfer.training.pretext_task import Pretext
from transfer.training.recipe import PLAIN_RATE
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


UNLABELED = (
    "not every image has a label, and this task learns labels: use a dataset or split in which all "
    "images are labeled"
)


class Supervised(RandomResizedCropAugment, Pretext):
    """Which class does the image belong to? The dataset's labels give the answer.

    Loss: cross-entropy over the classes, images cropped and mirrored at random. Source: the recipe
    of the target network (`target/pseudo_label`), so that the two differ only in their labels.
    Trap: labels are looked up by the image's row in the dataset, never by its place in a batch.
    """

    images = {"images": ImageInput("train", needs_labels=True)}
    defaults: ClassVar[dict[str, Any]] = {"learning_rate": PLAIN_RATE}  # as the targets'
    needs = "labels"
    trains_last_layer = True

    backbone: BackboneOption = option("alexnet", "the network (see `transfer list backbones`)")

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check that every image has a label, and that two labels differ."""
        _check_labels(class_counts(planned.images["images"].stage))

    def chance(self, dataset: DatasetInfo) -> float:
        return 1 / max(1, dataset.classes)

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the backbone and a head on its last layer; the buffer `labels` has all labels."""
        head = nn.Linear(backbone.width(dataset.size), max(1, dataset.classes))
        network = nn.ModuleDict({"backbone": backbone, "head": head})
        network.register_buffer("labels", torch.zeros(dataset.count, dtype=torch.int64))
        return network

    def begin(self, network: nn.ModuleDict, context: StageContext) -> None:
        labels = context.images["images"].labels
        if labels is None:
            raise TransferError(UNLABELED)
        _check_labels(np.unique(labels).tolist())
        network.get_buffer("labels").copy_(torch.from_numpy(labels))

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        crops = normalize(self.augment(images, rng), self.normalization)
        logits = network["head"](network["backbone"](crops).flatten(1)).float()
        labels = network.get_buffer("labels")[rng.ids]
        return F.cross_entropy(logits, labels), {
            "accuracy": (logits.argmax(1) == labels).float().mean()
        }


def _check_labels(labels: Collection[int]) -> None:
    """Raise TransferError unless there are two labels; a negative one stands for none."""
    if min(labels, default=-1) < 0:
        raise TransferError(UNLABELED)
    if len(labels) < 2:
        raise TransferError("all images have the same label: use a dataset with two classes")
