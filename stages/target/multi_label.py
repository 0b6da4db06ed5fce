"""The target learns several clusterings at once: another k, seed, layer, preparation or teacher each, a head each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.artifacts import PseudoLabels
from transfer.errors import TransferError
from transfer.stage.base import ImageInput
from transfer.stage.feature_space import check_each_once
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
    """The mean of the cross-entropies over several sets of pseudo-labels, each with a linear head of its own.

    One clustering cuts at arbitrary places; what several agree on is there. Images that one of them lacks are left out.
    """

    images = {"images": ImageInput("unlabeled", same_as="labels")}

    labels: OneOrMoreStages = stage_input(PseudoLabels, "what is learned: [labels_50, labels_200]")

    def validate_plan(self, planned: PlannedStage) -> None:
        """No clustering is named twice."""
        check_each_once("labels", inputs_named(planned.inputs, "labels"))

    def run(self, context: StageContext) -> None:
        images, pseudo = context.images["images"], inputs_named(context.inputs, "labels")
        joint = np.stack([labels_for_images(one, images, context) for one in pseudo], axis=1)
        known = np.flatnonzero((joint >= 0).all(axis=1))
        if not len(known):
            raise TransferError(
                "no image has a label in each clustering: they are of different sets"
            )
        labels, counts = (
            torch.from_numpy(joint).to(context.runtime.device),
            [one.count for one in pseudo],
        )

        def asked(
            heads: nn.Module, found: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            each = list(
                zip([head(found) for head in heads], labels[rng.ids].unbind(1), strict=True)
            )
            loss = torch.stack([F.cross_entropy(logits, wanted) for logits, wanted in each]).mean()
            rights = [(logits.argmax(1) == wanted).float().mean() for logits, wanted in each]
            return loss, {"accuracy": torch.stack(rights).mean()}

        self.learn(
            context,
            lambda backbone, width: nn.ModuleList(nn.Linear(width, count) for count in counts),
            asked,
            known,
            chance=float(np.mean([1 / count for count in counts])),
        )
