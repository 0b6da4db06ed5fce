"""K-means over any number of rows: Lloyd's iterations over blocks, each assigned by FAISS on a CPU or a GPU.

Only the centroids and one block are in memory (rows stay there too where they fit). Every row counts in every
iteration: nothing is sampled, unlike in FAISS's own loop, which draws 256 rows a centroid unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from transfer.errors import TransferError
from transfer.lazy import faiss, np, sparse, torch

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Features

IN_MEMORY = 2 << 30  # bytes of float32 rows that are kept instead of being read anew in each iteration
SEEDING_ROWS = 64  # rows a centroid from which k-means++ chooses, so that it does not cost k passes over all
NUDGE = 1 / 1024  # how far the halves of a split cluster are moved apart, as in FAISS


class Rows(Protocol):
    """What is clustered: `count` rows of `width` values, read in order by blocks of float32."""

    count: int
    width: int

    def blocks(self) -> Iterator[tuple[int, numpy.ndarray]]: ...


class FeatureRows:
    """The rows of a Features artifact, kept in memory after the first pass if they fit."""

    def __init__(self, features: Features):
        self.features = features
        self.count, self.width = features.shape
        self._kept: list[tuple[int, numpy.ndarray]] | None = None

    def blocks(self) -> Iterator[tuple[int, numpy.ndarray]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept = [] if self.count * self.width * 4 <= IN_MEMORY else None
        for start, block in self.features.blocks():
            if kept is not None:
                kept.append((start, block))
            yield start, block
        self._kept = kept


@dataclass
class Lloyd:
    """Where an iteration stands: enough to go on from."""

    centroids: numpy.ndarray  # (k, D) float32
    objective: list[float] = field(default_factory=list)  # sum of squared distances, at each iteration's start
    splits: int = 0  # empty clusters that were given half of a large one
    settled: bool = False  # the last iteration moved nothing


class Assigner:
    """Nearest centroids of blocks of rows."""

    def __init__(self, centroids: numpy.ndarray, gpu: int | None = None):
        if gpu is None:
            self._index = faiss.IndexFlatL2(centroids.shape[1])
        else:
            # FAISS reserves 1.5 GB of scratch memory unless told; the index is made for one named GPU.
            self._resources = faiss.StandardGpuResources()
            self._resources.setTempMemory(256 << 20)
            config = faiss.GpuIndexFlatConfig()
            config.device = gpu
            self._index = faiss.GpuIndexFlatL2(self._resources, centroids.shape[1], config)
        self._index.add(np.ascontiguousarray(centroids, dtype=np.float32))

    def nearest(self, block: numpy.ndarray, count: int = 1) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(n, D) float32 to squared distances and centroid numbers, both (n, count), nearest first."""
        distances, labels = self._index.search(np.ascontiguousarray(block), count)
        return np.maximum(distances, 0), labels


def gpu_of(device: str) -> int | None:
    """The number of the GPU that FAISS is to use for a torch device; None: the CPU (also where FAISS has no GPU code)."""
    if not device.startswith("cuda") or not hasattr(faiss, "StandardGpuResources"):
        return None
    return int(device.partition(":")[2] or 0)


def start(rows: Rows, k: int, init: Literal["k-means++", "random"], seed: int) -> Lloyd:
    """k rows as first centroids, drawn from the seed."""
    random = np.random.RandomState(seed % (1 << 32))
    sampled = min(rows.count, k if init == "random" else SEEDING_ROWS * k)
    chosen = np.sort(random.choice(rows.count, sampled, replace=False))
    sample = _pick(rows, chosen)
    return Lloyd(sample if init == "random" else _plus_plus(sample, k, random))


def iterate(rows: Rows, state: Lloyd, gpu: int | None = None) -> Lloyd:
    """One pass: assign every row, move every centroid to the mean of its rows; empty ones take half of a large one."""
    k = len(state.centroids)
    assigner = Assigner(state.centroids, gpu)
    sums, sizes, objective = np.zeros((k, rows.width)), np.zeros(k, dtype=np.int64), 0.0
    for _, block in rows.blocks():
        distances, labels = assigner.nearest(block)
        objective += float(distances.sum(dtype=np.float64))
        counts = np.bincount(labels[:, 0], minlength=k)
        sums += _sums(block, labels[:, 0], counts)
        sizes += counts
    means = (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
    centroids = np.where(sizes[:, None] > 0, means, state.centroids)
    splits = _split_into_empty(centroids, sizes)
    settled = (
        splits == 0
        and bool(state.objective)
        and objective >= state.objective[-1]
        and np.array_equal(centroids, state.centroids)
    )
    return Lloyd(centroids, [*state.objective, objective], state.splits + splits, settled)


def measure(rows: Rows, centroids: numpy.ndarray, gpu: int | None = None) -> tuple[numpy.ndarray, float]:
    """(k,) sizes of the clusters over all rows, and the sum of squared distances."""
    assigner = Assigner(centroids, gpu)
    sizes, objective = np.zeros(len(centroids), dtype=np.int64), 0.0
    for _, block in rows.blocks():
        distances, labels = assigner.nearest(block)
        sizes += np.bincount(labels[:, 0], minlength=len(centroids))
        objective += float(distances.sum(dtype=np.float64))
    return sizes, objective


def check_rows(rows: Rows, k: int, name_of: Callable[[int], str]) -> None:
    """TransferError where k-means has no answer: too few rows, too few distinct ones, or values that are no numbers."""
    if rows.count < k:
        raise TransferError(f"{rows.count} rows cannot make {k} clusters: lower k, or take more images")
    distinct: set[int] = set()
    for first, block in rows.blocks():
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise TransferError(f"the features of {name_of(first + int((~finite).argmax()))} are not finite numbers")
        if len(distinct) < k:
            distinct.update(hash(row.tobytes()) for row in block)
    if len(distinct) < k:
        raise TransferError(
            f"only {len(distinct)} of {rows.count} rows are distinct, too few for {k} clusters: "
            "did the network collapse, or does the set hold copies?"
        )


def _sums(block: numpy.ndarray, labels: numpy.ndarray, counts: numpy.ndarray) -> numpy.ndarray:
    """(k, D): sums of the rows of each cluster, as a product with a sparse matrix of ones."""
    ends = np.concatenate(([0], counts.cumsum()))
    members = sparse.csr_matrix(
        (np.ones(len(block), np.float32), labels.argsort(kind="stable"), ends),
        shape=(len(counts), len(block)),
    )
    return members @ block


def _split_into_empty(centroids: numpy.ndarray, sizes: numpy.ndarray) -> int:
    """Give each empty cluster one half of the largest; both halves are nudged apart, in place."""
    sizes = sizes.copy()
    empty = np.flatnonzero(sizes == 0)
    sign = np.where(np.arange(centroids.shape[1]) % 2 == 0, 1 + NUDGE, 1 - NUDGE).astype(np.float32)
    for hole in empty:
        donor = int(sizes.argmax())
        centroids[hole] = centroids[donor] * sign
        centroids[donor] = centroids[donor] * (2 - sign)
        sizes[hole] = sizes[donor] // 2
        sizes[donor] -= sizes[hole]
    return len(empty)


def _pick(rows: Rows, chosen: numpy.ndarray) -> numpy.ndarray:
    parts = []
    for first, block in rows.blocks():
        inside = chosen[(chosen >= first) & (chosen < first + len(block))]
        parts.append(block[inside - first])
    return np.concatenate(parts)


def _plus_plus(sample: numpy.ndarray, k: int, random: numpy.random.RandomState) -> numpy.ndarray:
    """k-means++ (Arthur & Vassilvitskii 2007): each next centroid is drawn with the square of its distance to the others."""
    points = torch.from_numpy(sample)
    squares = points.square().sum(1)
    chosen = [int(random.randint(len(sample)))]
    nearest = torch.full((len(sample),), float("inf"))
    while True:
        last = points[chosen[-1]]
        nearest = torch.minimum(nearest, (squares - 2 * (points @ last) + last.square().sum()).clamp(min=0))
        nearest[chosen] = 0
        if len(chosen) == k:
            return sample[np.array(chosen)]
        weights = nearest.double().cumsum(0).numpy()
        at = int(np.searchsorted(weights, random.random_sample() * weights[-1], side="right"))
        chosen.append(
            min(at, len(sample) - 1) if weights[-1] > 0 else int(np.setdiff1d(np.arange(len(sample)), chosen)[0])
        )
