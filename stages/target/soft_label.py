"""The target learns how much each image belongs to each cluster, rather than the nearest one alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.target._teacher import check_live, rows_with_features, teachers
from transfer.artifacts import Clusters, Features, Model
from transfer.errors import TransferError
from transfer.stage.base import ImageInput
from transfer.stage.feature_space import check_same_space
from transfer.stage.options import option, stage_input
from transfer.training.target_task import Target
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class SoftLabel(Target):
    """Cross-entropy with a softmax over the centroids of the (negative) squared distances.

    Distances count in units of the clustering's own mean squared distance to the nearest centroid, so that one
    temperature does for features of any scale; toward zero it gives the hard labels of `assign`.
    """

    images = {"images": ImageInput("unlabeled", same_as="features")}

    features: str = stage_input(Features, "of the images to learn from")
    clusters: str = stage_input(Clusters, "whose centroids they are compared with")
    live: str | None = stage_input(
        Model, "the teacher, to ask it about every crop; none: kept features count", optional=True
    )
    temperature: float = option(
        0.1, "of the softmax, in units of the mean squared distance to a centroid", gt=0
    )

    def validate_plan(self, planned: PlannedStage) -> None:
        """Features and centroids are of one kind, and the teacher is theirs."""
        check_same_space("features", planned.inputs["features"], planned.inputs["clusters"])
        check_live([planned.inputs["features"]], planned.inputs.get("live"))

    def run(self, context: StageContext) -> None:
        features, clusters = context.inputs["features"], context.inputs["clusters"]
        if features.space != clusters.space:
            raise TransferError("these features are not of the kind that the centroids are of")
        (teacher,) = teachers(context, [features], context.inputs.get("live"))
        filled = np.flatnonzero(clusters.sizes)
        if len(filled) < 2:
            raise TransferError("all images are in one cluster: there is nothing to learn from it")
        centroids = torch.from_numpy(clusters.centroids[filled]).to(context.runtime.device)
        squares = centroids.square().sum(1)
        spread = float(clusters.objective[-1]) / float(clusters.sizes.sum())
        scale = 1 / max(self.temperature * spread, 1e-12)

        def asked(
            head: nn.Module, found: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            rows = teacher(crops, rng)
            with torch.autocast(
                rows.device.type, enabled=False
            ):  # distances lose too much in half precision
                wanted = ((2 * rows @ centroids.T - squares) * scale).softmax(1)
            logits = head(found)
            accuracy = (logits.argmax(1) == wanted.argmax(1)).float().mean()
            return F.cross_entropy(logits, wanted), {"accuracy": accuracy}

        self.learn(
            context,
            lambda backbone, width: nn.Linear(width, len(filled)),
            asked,
            rows_with_features([teacher], context),
            chance=1 / len(filled),
        )
