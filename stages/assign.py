"""Pseudo-labels: every image gets the nearest cluster, of its own set's centroids or another's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.artifacts import Clusters, Features, PseudoLabels
from transfer.clustering import Assigner, gpu_of
from transfer.errors import BadOption, TransferError
from transfer.lazy import np
from transfer.stage import Stage, reads

if TYPE_CHECKING:
    from transfer.pipeline import Planned
    from transfer.work import Work


class Assign(Stage):
    """The nearest centroid, with its distance and the runner-up's. Labels are compact: empty clusters have none."""

    produces = PseudoLabels
    seeded = False

    features: str = reads(Features, "of the images to label")
    clusters: str = reads(Clusters, "what they are compared with")

    def check(self, planned: Planned) -> None:
        """Features and centroids come from the same network, layer and preparation."""
        ours, theirs = planned.inputs["features"], planned.inputs["clusters"].inputs["features"]
        if _space(ours) != _space(theirs):
            raise BadOption(
                "features",
                f"'{ours.name}' are not features of the kind that '{planned.inputs['clusters'].name}' has centroids of ('{theirs.name}'): "
                "take the same network, layer and pooling, and prepare them with `like`",
            )

    def run(self, work: Work) -> None:
        features: Features = work.inputs["features"]
        clusters: Clusters = work.inputs["clusters"]
        if features.space != clusters.space:
            raise TransferError(
                "these features are not of the kind that the centroids are of (another network, layer or preparation)"
            )
        assigner = Assigner(clusters.centroids, gpu_of(str(work.machine.device)))
        blocks = []
        with work.progress("assigning", len(features), "images") as progress:
            for _, block in features.blocks():
                blocks.append(assigner.nearest(block, 2))
                progress.advance(len(block))
                work.pause_point()
        squared, nearest = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        used, labels = np.unique(nearest[:, 0], return_inverse=True)
        distance, runner_up = np.sqrt(squared).T
        PseudoLabels.write(
            work.folder, features.ids, labels.reshape(-1).astype(np.int64), used.astype(np.int64), distance, runner_up,
            clusters=work.input_keys["clusters"], features=work.input_keys["features"],
        )  # fmt: skip
        work.figures.update(images=len(features), labels=len(used), unused=len(clusters.centroids) - len(used))


def _space(features: Planned) -> Any:
    """What the space of planned features depends on, read off the plan."""
    if "like" in features.inputs:
        return _space(features.inputs["like"])
    if "model" in features.inputs:
        return features.inputs["model"].key, features.stage.layer, features.stage.pool, features.stage.pooling
    return features.key
