"""K-means clustering of features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

from transfer.artifacts import Clusters, Features
from transfer.datasets.packed.label_facts import image_count
from transfer.errors import InvalidOption, TransferError
from transfer.numerics.cluster_agreement import size_balance
from transfer.numerics.kmeans import (
    LloydState,
    check_rows,
    cluster_sizes,
    initial_centroids,
    lloyd_step,
)
from transfer.numerics.nearest_centroids import faiss_gpu
from transfer.stage.base import Stage
from transfer.stage.feature_blocks import FeatureRows
from transfer.stage.feature_space import planned_count
from transfer.stage.options import option, stage_input
from transfer.stage.upstream import source_pack
from transfer.storage.hdf5_tables import write_table
from transfer.utils.files import write_atomic
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.utils.progress import Progress


class Cluster(Stage):
    """Cluster features by k-means with FAISS over all rows, without sampling.

    The paper has k = 2,000 and Euclidean distances; k hardly mattered there.
    """

    produces = Clusters
    smoke = {"k": 20, "iterations": 3}

    features: str = stage_input(Features, "the features to cluster")
    k: int = option(2000, "number of clusters", ge=2)
    iterations: int = option(
        20, "maximum passes over all rows; stops early when nothing moves", ge=1
    )
    init: Literal["k-means++", "random"] = option(
        "k-means++", "first centroids (k-means++ chooses among 16 rows a centroid)"
    )
    n_init: int = option(1, "starts, of which the one with the lowest objective is kept", ge=1)

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption for fewer images than clusters."""
        self._check_count(planned_count(planned.inputs["features"]))

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Repeat the check for a subset by classes, whose images are counted by their labels."""
        pack = source_pack(planned.inputs["features"])
        self._check_count(image_count(pack.stage) if pack is not None else None)

    def _check_count(self, count: int | None) -> None:
        if count is not None and count < self.k:
            raise InvalidOption(
                "k", f"{self.k} clusters of {count} images; k must be at most the number of images"
            )

    def run(self, context: StageContext) -> None:
        features: Features = context.inputs["features"]
        rows = FeatureRows(features, context.pause_point)
        gpu = faiss_gpu(str(context.runtime.device))
        if context.runtime.device.type == "cuda" and gpu is None:
            context.note("this FAISS cannot use the GPU: k-means ran on the CPU")
        check_rows(rows, self.k, lambda row: features.ids[row])
        best: tuple[float, LloydState, numpy.ndarray] | None = None
        with context.progress(
            "clustering", self.n_init * self.iterations, "iterations"
        ) as progress:
            for number in range(self.n_init):
                state = self._run_lloyd(context, rows, number, gpu, progress)
                sizes, objective = cluster_sizes(rows, state.centroids, gpu)
                if best is None or objective < best[0]:
                    best = objective, state, sizes
        assert best is not None, "n_init is at least 1"
        objective, state, sizes = best
        self._report(context, sizes, objective, state)
        write_table(
            context.folder / "clusters.h5",
            {
                "centroids": state.centroids,
                "sizes": sizes,
                "objective": np.array([*state.objective, objective]),
            },
            space=features.space,
            layer=features.attributes["layer"],
            preparation=features.attributes["preparation"],
        )

    def _run_lloyd(
        self,
        context: StageContext,
        rows: FeatureRows,
        number: int,
        gpu: int | None,
        progress: Progress,
    ) -> LloydState:
        """Run all iterations of start `number`, with a checkpoint after each."""
        path = context.checkpoints / f"try-{number}.npz"
        state = _load(path) or initial_centroids(
            rows, self.k, self.init, context.seed_for("start", number)
        )
        progress.advance(len(state.objective))
        while len(state.objective) < self.iterations and not state.settled:
            state = lloyd_step(rows, state, gpu)
            _save(path, state)
            iteration = f"iteration {len(state.objective)} of {self.iterations}"
            context.save_progress(f"start {number + 1} of {self.n_init}, {iteration}")
            progress.say(f"objective {state.objective[-1]:.4g}")
            progress.advance(1)
            context.pause_point()
        progress.advance(self.iterations - len(state.objective))
        return state

    def _report(
        self, context: StageContext, sizes: numpy.ndarray, objective: float, state: LloydState
    ) -> None:
        """Record figures and notes on balance and empty clusters; raise for collapsed features."""
        empty = int((sizes == 0).sum())
        entropy, imbalance = size_balance(sizes)
        if len(sizes) - empty == 1:
            raise TransferError("all rows fell into one cluster: the features have collapsed")
        context.figures.update(
            k=self.k,
            objective=objective,
            empty=empty,
            smallest=int(sizes.min()),
            largest=int(sizes.max()),
            entropy=entropy,
            imbalance=imbalance,
            iterations=len(state.objective),
            splits=state.splits,
        )
        if (largest := sizes.max() / sizes.sum()) > 0.5:
            context.note(
                f"one cluster holds {100 * largest:.0f} % of all rows; did the features collapse?"
            )
        if empty:
            are = "is" if empty == 1 else "are"
            context.note(f"{empty} of {self.k} clusters {are} empty; `assign` leaves them out")


def _save(path: Path, state: LloydState) -> None:
    def write(draft: Path) -> None:
        objective, facts = np.array(state.objective), np.array([state.splits, state.settled])
        with open(draft, "wb") as file:
            np.savez(file, centroids=state.centroids, objective=objective, facts=facts)

    write_atomic(path, write, durable=True)


def _load(path: Path) -> LloydState | None:
    """The state that an interrupted run saved; None if it is missing or unreadable."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            splits, settled = saved["facts"].tolist()
            return LloydState(
                saved["centroids"], saved["objective"].tolist(), splits, bool(settled)
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
