"""The target learns the pseudo-labels: plain classification from random weights (the paper's transfer)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from transfer.artifacts import PseudoLabels
from transfer.stage.base import ImageInput
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
    """Cross-entropy over the clusters, images cropped and mirrored at random.

    Labels are joined to images by id; the head has one output a non-empty cluster, and is
    no part of the network: it is kept beside it (`head.safetensors`) for `evaluate/fidelity`.
    """

    version = 2  # since the head is kept beside the network
    images = {"images": ImageInput("unlabeled", same_as="labels")}

    labels: str = stage_input(PseudoLabels, "what is learned")
    sampling: Literal["uniform", "balanced"] = option(
        "uniform", "uniform: every image once an epoch; balanced: every cluster equally often"
    )

    def run(self, context: StageContext) -> None:
        images, pseudo = context.images["images"], context.inputs["labels"]
        joint = labels_for_images(pseudo, images, context)
        known = np.flatnonzero(joint >= 0)
        labels = torch.from_numpy(joint).to(context.runtime.device)

        def asked(
            head: nn.Module, found: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            logits, wanted = head(found), labels[rng.ids]
            return F.cross_entropy(logits, wanted), {
                "accuracy": (logits.argmax(1) == wanted).float().mean()
            }

        def balanced(epoch: int) -> numpy.ndarray:
            return class_balanced_order(context.seed_for("order", epoch), known, joint[known])

        head = self.learn(
            context,
            lambda backbone, width: nn.Linear(width, pseudo.count),
            asked,
            known,
            order=balanced if self.sampling == "balanced" else None,
            chance=1 / pseudo.count,
        )
        weights = {name: tensor.detach().cpu() for name, tensor in head.state_dict().items()}
        safetensors.save_file(weights, context.folder / "head.safetensors")
