"""The target learns how much each image belongs to each cluster, rather than the nearest one alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.target._teacher import check_live, known_to, teachers
from transfer.artifacts import Clusters, Features, Model
from transfer.errors import TransferError
from transfer.stage.base import Images, option, reads
from transfer.stage.feature_space import check_same_space
from transfer.training.target_task import Target
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.pipeline.plan import Planned
    from transfer.stage.context import Work
    from transfer.transforms.per_image_rng import Draw


class SoftLabel(Target):
    """Cross-entropy with a softmax over the centroids of the (negative) squared distances.

    Distances count in units of the clustering's own mean squared distance to the nearest centroid, so that one
    temperature does for features of any scale; towards zero it gives the hard labels of `assign`.
    """

    images = {"images": Images("unlabeled", follow="features")}

    features: str = reads(Features, "of the images to learn from")
    clusters: str = reads(Clusters, "whose centroids they are compared with")
    live: str | None = reads(
        Model, "the teacher, to ask it about every crop; none: kept features count", optional=True
    )
    temperature: float = option(
        0.1, "of the softmax, in units of the mean squared distance to a centroid", gt=0
    )

    def check(self, planned: Planned) -> None:
        """Features and centroids are of one kind, and the teacher is theirs."""
        check_same_space("features", planned.inputs["features"], planned.inputs["clusters"])
        check_live([planned.inputs["features"]], planned.inputs.get("live"))

    def run(self, work: Work) -> None:
        features, clusters = work.inputs["features"], work.inputs["clusters"]
        if features.space != clusters.space:
            raise TransferError("these features are not of the kind that the centroids are of")
        (teacher,) = teachers(work, [features], work.inputs.get("live"))
        filled = np.flatnonzero(clusters.sizes)
        if len(filled) < 2:
            raise TransferError("all images are in one cluster: there is nothing to learn from it")
        centroids = torch.from_numpy(clusters.centroids[filled]).to(work.machine.device)
        squares = centroids.square().sum(1)
        spread = float(clusters.objective[-1]) / float(clusters.sizes.sum())
        scale = 1 / max(self.temperature * spread, 1e-12)

        def asked(
            head: nn.Module, found: Tensor, crops: Tensor, draw: Draw
        ) -> tuple[Tensor, dict[str, Tensor]]:
            rows = teacher(crops, draw)
            with torch.autocast(
                rows.device.type, enabled=False
            ):  # distances lose too much in half precision
                wanted = ((2 * rows @ centroids.T - squares) * scale).softmax(1)
            logits = head(found)
            accuracy = (logits.argmax(1) == wanted.argmax(1)).float().mean()
            return F.cross_entropy(logits, wanted), {"accuracy": accuracy}

        self.learn(
            work,
            lambda backbone, width: nn.Linear(width, len(filled)),
            asked,
            known_to([teacher], work),
            chance=1 / len(filled),
        )
