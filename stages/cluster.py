"""Clusters: k-means of features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from transfer.artifacts import Clusters, Features
from transfer.clustering import FeatureRows, Lloyd, check_rows, gpu_of, iterate, measure, start
from transfer.errors import BadOption, TransferError
from transfer.lazy import np
from transfer.stage import Stage, option, reads
from transfer.tables import write_table

if TYPE_CHECKING:
    from transfer.pipeline import Planned
    from transfer.work import Work


class Cluster(Stage):
    """K-means with FAISS over all rows: no sub-sampling. The paper: k = 2,000, Euclidean; k hardly mattered there."""

    produces = Clusters
    smoke = {"k": 20, "iterations": 3}

    features: str = reads(Features, "what is clustered")
    k: int = option(2000, "number of clusters", ge=2)
    iterations: int = option(20, "passes over all rows; it stops before if nothing moves any more", ge=1)
    init: Literal["k-means++", "random"] = option(
        "k-means++", "first centroids (k-means++ chooses among 64 rows a centroid)"
    )
    tries: int = option(1, "starts, of which the one with the lowest objective is kept", ge=1)

    def check(self, planned: Planned) -> None:
        """There are as many images as clusters."""
        source = planned.inputs["features"]
        while not source.images:
            source = next(iter(source.inputs.values()))
        count = next(iter(source.images.values())).stage.count
        if count < self.k:
            raise BadOption("k", f"{self.k} clusters of {count} images: k must not be larger than their number")

    def run(self, work: Work) -> None:
        features: Features = work.inputs["features"]
        rows, gpu = FeatureRows(features), gpu_of(str(work.machine.device))
        check_rows(rows, self.k, lambda row: features.ids[row])
        best: tuple[float, Lloyd, np.ndarray] | None = None
        with work.progress("clustering", self.tries * self.iterations, "iterations") as progress:
            for number in range(self.tries):
                state = self._lloyd(work, rows, number, gpu, progress)
                sizes, objective = measure(rows, state.centroids, gpu)
                if best is None or objective < best[0]:
                    best = objective, state, sizes
        objective, state, sizes = best
        self._tell(work, sizes, objective, state)
        write_table(
            work.folder / "clusters.h5",
            {"centroids": state.centroids, "sizes": sizes, "objective": np.array([*state.objective, objective])},
            space=features.space, layer=features.attributes["layer"], preparation=features.attributes["preparation"],
        )  # fmt: skip

    def _lloyd(self, work: Work, rows: FeatureRows, number: int, gpu: int | None, progress: Any) -> Lloyd:
        """All iterations of one try; each leaves a checkpoint."""
        path = work.checkpoints / f"try-{number}.npz"
        state = _load(path) or start(rows, self.k, self.init, work.seed_for("start", number))
        progress.advance(len(state.objective))
        while len(state.objective) < self.iterations and not state.settled:
            state = iterate(rows, state, gpu)
            _save(path, state)
            work.save_progress(
                f"try {number + 1} of {self.tries}, iteration {len(state.objective)} of {self.iterations}"
            )
            progress.say(f"objective {state.objective[-1]:.4g}")
            progress.advance(1)
            work.pause_point()
        return state

    def _tell(self, work: Work, sizes: np.ndarray, objective: float, state: Lloyd) -> None:
        """What a person should know: balance, emptiness, collapse."""
        share = sizes / sizes.sum()
        filled = share[share > 0]
        if len(filled) == 1:
            raise TransferError("all rows fell into one cluster: the features have collapsed")
        entropy = float(-(filled * np.log(filled)).sum() / np.log(self.k))
        work.figures.update(
            k=self.k, objective=objective, empty=int((sizes == 0).sum()), smallest=int(sizes.min()), largest=int(sizes.max()),
            entropy=entropy, imbalance=float(self.k * (share**2).sum()), iterations=len(state.objective), splits=state.splits,
        )  # fmt: skip
        if share.max() > 0.5:
            work.note(f"one cluster holds {100 * share.max():.0f} % of all rows: the features may have collapsed")
        if (sizes == 0).any():
            work.note(f"{int((sizes == 0).sum())} of {self.k} clusters are empty; `assign` leaves them out")


def _save(path: Any, state: Lloyd) -> None:
    draft = path.with_suffix(".draft")
    with open(draft, "wb") as file:
        np.savez(
            file,
            centroids=state.centroids,
            objective=np.array(state.objective),
            facts=np.array([state.splits, state.settled]),
        )
    draft.replace(path)


def _load(path: Any) -> Lloyd | None:
    """The state that a former run saved; None where there is none, or none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            splits, settled = saved["facts"].tolist()
            return Lloyd(saved["centroids"], saved["objective"].tolist(), splits, bool(settled))
    except (OSError, ValueError, KeyError, EOFError):
        return None
