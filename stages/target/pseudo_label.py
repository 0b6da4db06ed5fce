"""The target predicts the pseudo-labels, from random weights: the paper's transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from transfer.artifacts import PseudoLabels
from transfer.stage.image_input import ImageInput
from transfer.stage.label_joining import class_balanced_order, labels_for_images
from transfer.stage.options import option, stage_input
from transfer.training.target_task import Target
from transfer.utils.lazy_imports import F, nn, np, safetensors, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class PseudoLabel(Target):
    """Learn the clusters as classes: cross-entropy on randomly cropped and mirrored images.

    Labels are joined to images by id. The head has one output for each non-empty cluster. It is not
    part of the network, and is kept in `head.safetensors` for `evaluate/fidelity`.
    """

    version = 2  # since the head is kept
    images = {"images": ImageInput("unlabeled", same_as="labels")}

    labels: str = stage_input(PseudoLabels, "the pseudo-labels to learn")
    sampling: Literal["uniform", "balanced"] = option(
        "uniform", "uniform: every image once an epoch; balanced: every cluster equally often"
    )

    def run(self, context: StageContext) -> None:
        images, pseudo_labels = context.images["images"], context.inputs["labels"]
        joint = labels_for_images(pseudo_labels, images, context)
        rows = np.flatnonzero(joint >= 0)
        labels = torch.from_numpy(joint).to(context.runtime.device)

        def loss(
            head: nn.Module, features: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            logits, targets = head(features), labels[rng.ids]
            accuracy = (logits.argmax(1) == targets).float().mean()
            return F.cross_entropy(logits, targets), {"accuracy": accuracy}

        def balanced_order(epoch: int) -> numpy.ndarray:
            return class_balanced_order(context.seed_for("order", epoch), rows, joint[rows])

        head = self.learn(
            context,
            lambda backbone, width: nn.Linear(width, pseudo_labels.count),
            loss,
            rows,
            order=balanced_order if self.sampling == "balanced" else None,
            chance=1 / pseudo_labels.count,
        )
        weights = {name: tensor.detach().cpu() for name, tensor in head.state_dict().items()}
        safetensors.save_file(weights, context.folder / "head.safetensors")
