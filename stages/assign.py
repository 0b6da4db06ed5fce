"""Pseudo-labels: the nearest cluster of each image, of its own set or of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.artifacts import Clusters, Features, PseudoLabels
from transfer.errors import TransferError
from transfer.numerics.nearest_centroids import Assigner, faiss_gpu
from transfer.stage.base import Stage
from transfer.stage.feature_blocks import finite_blocks
from transfer.stage.feature_space import check_same_space
from transfer.stage.options import stage_input
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext


class Assign(Stage):
    """Label each image with its nearest centroid; keep the distances to it and to the runner-up.

    Labels are consecutive numbers, since empty clusters get none.
    """

    produces = PseudoLabels
    version = 2  # since the number of clusters is kept
    seeded = False

    features: str = stage_input(Features, "the features of the images to label")
    clusters: str = stage_input(Clusters, "the clusters that the features are compared with")

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption for features of another network, layer or preparation."""
        check_same_space("features", planned.inputs["features"], planned.inputs["clusters"])

    def run(self, context: StageContext) -> None:
        features: Features = context.inputs["features"]
        clusters: Clusters = context.inputs["clusters"]
        if features.space != clusters.space:
            raise TransferError(
                "features and centroids differ in network, layer, pooling or preparation"
            )
        filled = np.flatnonzero(clusters.sizes)  # an empty cluster must not be a runner-up either
        centroids = np.ascontiguousarray(clusters.centroids[filled])
        assigner = Assigner(centroids, faiss_gpu(str(context.runtime.device)))
        blocks = []
        with context.progress("assigning", len(features), "images") as progress:
            for _, block in finite_blocks(context, features):
                blocks.append(two_nearest(block, centroids, assigner))
                progress.advance(len(block))
        distances, nearest = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        used, labels, sizes = np.unique(nearest[:, 0], return_inverse=True, return_counts=True)
        if len(used) == 1:
            raise TransferError("all images got the same label, so there is nothing to learn")
        if sizes.max() > len(features) / 2:
            context.note(
                f"{100 * sizes.max() / len(features):.0f} % of all images got the same label"
            )
        PseudoLabels.write(
            context.folder,
            features.ids,
            labels.reshape(-1).astype(np.int64),
            filled[used].astype(np.int64),
            *distances.T,
            clusters=context.input_keys["clusters"],
            k=len(clusters.sizes),
            features=context.input_keys["features"],
        )
        context.figures.update(
            images=len(features), labels=len(used), unused=len(clusters.sizes) - len(used)
        )


def two_nearest(
    block: numpy.ndarray, centroids: numpy.ndarray, assigner: Assigner
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Compute the Euclidean distances to the two nearest centroids.

    Distances are computed from differences, because FAISS's own, from products, are inaccurate
    where they are small.

    Args:
        block: (n, D) float32.
        centroids: (k, D) float32.
        assigner: finds the nearest centroids.

    Returns:
        Distances and centroid numbers, both (n, 2), nearest first.
    """
    _, numbers = assigner.nearest(block, 2)
    offsets = [block - centroids[column] for column in numbers.T]
    squares = [np.einsum("nd,nd->n", offset, offset) for offset in offsets]
    distances = np.sqrt(np.stack(squares, axis=1))
    order = distances.argsort(axis=1, kind="stable")
    return np.take_along_axis(distances, order, 1), np.take_along_axis(numbers, order, 1)
