"""The target predicts the pseudo-labels of several clusterings, with a head for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.artifacts import PseudoLabels
from transfer.errors import TransferError
from transfer.stage.feature_space import check_each_once
from transfer.stage.image_input import ImageInput
from transfer.stage.label_joining import labels_for_images
from transfer.stage.options import OneOrMoreStages, inputs_named, stage_input
from transfer.training.target_task import Target
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class MultiLabel(Target):
    """Learn several sets of pseudo-labels: the mean of their cross-entropies, a linear head each.

    The clusterings differ in k, seed, layer, preparation or teacher. The borders of one clustering
    are arbitrary; what several agree on is not. Images without a label in one of them are left out.
    """

    images = {"images": ImageInput("unlabeled", same_as="labels")}

    labels: OneOrMoreStages = stage_input(
        PseudoLabels, "the pseudo-labels to learn: [labels_50, labels_200]"
    )

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption if a clustering is named twice."""
        check_each_once("labels", inputs_named(planned.inputs, "labels"))

    def run(self, context: StageContext) -> None:
        images, clusterings = context.images["images"], inputs_named(context.inputs, "labels")
        joint = np.stack([labels_for_images(each, images, context) for each in clusterings], axis=1)
        rows = np.flatnonzero((joint >= 0).all(axis=1))
        if not len(rows):
            raise TransferError("no image has a label in each clustering; the sets differ")
        labels = torch.from_numpy(joint).to(context.runtime.device)
        counts = [clustering.count for clustering in clusterings]

        def loss(
            heads: nn.Module, features: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert isinstance(heads, nn.ModuleList)
            losses, accuracies = [], []
            for head, targets in zip(heads, labels[rng.ids].unbind(1), strict=True):
                logits = head(features)
                losses.append(F.cross_entropy(logits, targets))
                accuracies.append((logits.argmax(1) == targets).float().mean())
            return torch.stack(losses).mean(), {"accuracy": torch.stack(accuracies).mean()}

        self.learn(
            context,
            lambda backbone, width: nn.ModuleList(nn.Linear(width, count) for count in counts),
            loss,
            rows,
            chance=float(np.mean([1 / count for count in counts])),
        )
