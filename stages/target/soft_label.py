"""The target predicts how much each image belongs to each cluster, not only the nearest one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.target._teacher import check_live, rows_with_features, teachers
from transfer.artifacts import Clusters, Features, Model
from transfer.errors import TransferError
from transfer.stage.feature_space import check_same_space
from transfer.stage.image_input import ImageInput
from transfer.stage.options import option, stage_input
from transfer.training.target_task import Target
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class SoftLabel(Target):
    """Learn a softmax of negative squared distances to the centroids, with cross-entropy.

    Distances are divided by the clustering's mean squared distance to the nearest centroid, so that
    one temperature serves features of any scale. Toward zero it gives the labels of `assign`.
    """

    images = {"images": ImageInput("unlabeled", same_as="features")}

    features: str = stage_input(Features, "the features of the images to learn from")
    clusters: str = stage_input(Clusters, "the clusters that the features are compared with")
    live: str | None = stage_input(
        Model,
        "the teacher, to run it on every crop; none: its saved features are used",
        optional=True,
    )
    temperature: float = option(
        0.1, "temperature of the softmax, in units of the mean squared distance to a centroid", gt=0
    )

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption for features of another space than the centroids, or teacher."""
        check_same_space("features", planned.inputs["features"], planned.inputs["clusters"])
        check_live([planned.inputs["features"]], planned.inputs.get("live"))

    def run(self, context: StageContext) -> None:
        features, clusters = context.inputs["features"], context.inputs["clusters"]
        if features.space != clusters.space:
            raise TransferError(
                "features and centroids differ in network, layer, pooling or preparation"
            )
        (teacher,) = teachers(context, [features], context.inputs.get("live"))
        filled = np.flatnonzero(clusters.sizes)
        if len(filled) < 2:
            raise TransferError("all images are in one cluster, so there is nothing to learn")
        centroids = torch.from_numpy(clusters.centroids[filled]).to(context.runtime.device)
        squares = centroids.square().sum(1)
        mean_distance = float(clusters.objective[-1]) / float(clusters.sizes.sum())
        scale = 1 / max(self.temperature * mean_distance, 1e-12)

        def loss(
            head: nn.Module, features: Tensor, crops: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            rows = teacher(crops, rng)
            # Half precision has too few digits for distances.
            with torch.autocast(rows.device.type, enabled=False):
                targets = ((2 * rows @ centroids.T - squares) * scale).softmax(1)
            logits = head(features)
            accuracy = (logits.argmax(1) == targets.argmax(1)).float().mean()
            return F.cross_entropy(logits, targets), {"accuracy": accuracy}

        self.learn(
            context,
            lambda backbone, width: nn.Linear(width, len(filled)),
            loss,
            rows_with_features([teacher], context),
            chance=1 / len(filled),
        )
