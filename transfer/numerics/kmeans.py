"""K-means over any number of rows: Lloyd's iterations over blocks, each assigned by FAISS on a CPU or a GPU.

Only the centroids and one block are in memory (rows stay there too where they fit). Every row counts in every
iteration: nothing is sampled, unlike in FAISS's own loop, which draws 256 rows a centroid unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from transfer.errors import TransferError
from transfer.utils.lazy_imports import faiss, np, sparse, torch

if TYPE_CHECKING:
    import numpy

IN_MEMORY = (
    2 << 30
)  # bytes of float32 rows that are kept instead of being read anew in each iteration
SEEDING_ROWS = (
    16  # rows a centroid from which k-means++ chooses, so that it does not cost k passes over all
)
PANEL = 8192  # rows that are searched, and summed in float32, at a time
NUDGE = (
    1 / 64
)  # how far an empty cluster is moved from its donor's mean toward the donor's farthest row


class Rows(Protocol):
    """What is clustered: `count` rows of `width` values, read in order by blocks of float32."""

    count: int
    width: int

    def blocks(self) -> Iterator[tuple[int, numpy.ndarray]]: ...


@dataclass
class LloydState:
    """Where an iteration stands: enough to go on from."""

    centroids: numpy.ndarray  # (k, D) float32
    objective: list[float] = field(
        default_factory=list
    )  # sum of squared distances, at each iteration's start
    splits: int = 0  # empty clusters that were given a part of another
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
        # FAISS takes |x|^2 - 2xc + |c|^2 in float32: far from the origin, little but rounding would be left of it.
        middle = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = float(np.square(centroids[:1000] - middle).sum(axis=1).mean())
        self._middle = middle if float(middle @ middle) > 16 * spread else None
        centroids = centroids if self._middle is None else centroids - self._middle
        self._index.add(np.ascontiguousarray(centroids, dtype=np.float32))

    def nearest(self, block: numpy.ndarray, count: int = 1) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(n, D) float32 to squared distances and centroid numbers, both (n, count), nearest first.

        FAISS takes distances from products, which its library splits by the number of rows: a
        distance is exact to about 1e-5 of the squared lengths of row and centroid. Which of two
        centroids that lie as close as that comes first may depend on the rows beside the row.
        """
        block = block if self._middle is None else block - self._middle
        distances, labels = self._index.search(np.ascontiguousarray(block), count)
        if labels.size and labels.min() < 0:
            raise TransferError(
                "distances are too large for float32, or no numbers: standardize the features"
            )
        return np.maximum(distances, 0), labels


def faiss_gpu(device: str) -> int | None:
    """The GPU that FAISS is to use for a torch device; None: the CPU, also where FAISS cannot use that GPU."""
    number = int(device.partition(":")[2] or 0)
    usable = (
        device.startswith("cuda")
        and hasattr(faiss, "StandardGpuResources")
        and faiss.get_num_gpus() > number
    )
    return number if usable else None


def initial_centroids(
    rows: Rows, k: int, init: Literal["k-means++", "random"], seed: int
) -> LloydState:
    """k rows as first centroids, drawn from the seed."""
    random = np.random.RandomState(seed % (1 << 32))
    pool = k if init == "random" else max(k, min(SEEDING_ROWS * k, IN_MEMORY // (4 * rows.width)))
    chosen = np.sort(random.choice(rows.count, min(rows.count, pool), replace=False))
    sample = _gather_rows(rows, chosen)
    return LloydState(sample if init == "random" else sample[_kmeans_plus_plus(sample, k, random)])


def lloyd_step(rows: Rows, state: LloydState, gpu: int | None = None) -> LloydState:
    """Assign every row, then move every centroid to the mean of its rows (Lloyd 1982).

    The objective never rises, but for rounding. The same rows in the same blocks give the same
    bytes, so an iteration that is repeated after an interruption ends where it would have.

    An empty cluster is set beside the mean of the one with the largest sum of squares, which stays where it is.
    """
    k = len(state.centroids)
    sums, sizes, inertia = np.zeros((k, rows.width)), np.zeros(k, dtype=np.int64), np.zeros(k)
    farthest, reach = (
        np.zeros(k, dtype=np.int64),
        np.zeros(k, np.float32),
    )  # a row of each cluster, how far it is off
    for first, panel, distances, labels in _assigned(rows, state.centroids, gpu):
        _add_to_sums(sums, panel, labels)
        sizes += np.bincount(labels, minlength=k)
        inertia += np.bincount(labels, distances, minlength=k)
        np.maximum.at(reach, labels, distances)
        outermost = np.flatnonzero(distances == reach[labels])
        farthest[labels[outermost]] = first + outermost
    means = (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
    centroids = np.where(sizes[:, None] > 0, means, state.centroids)
    splits = _reseed_empty(rows, centroids, sizes, inertia, farthest)
    settled = splits == 0 and np.array_equal(centroids, state.centroids)
    return LloydState(
        centroids, [*state.objective, float(inertia.sum())], state.splits + splits, settled
    )


def cluster_sizes(
    rows: Rows, centroids: numpy.ndarray, gpu: int | None = None
) -> tuple[numpy.ndarray, float]:
    """(k,) sizes of the clusters over all rows, and the sum of squared distances."""
    sizes, objective = np.zeros(len(centroids), dtype=np.int64), 0.0
    for _, _, distances, labels in _assigned(rows, centroids, gpu):
        sizes += np.bincount(labels, minlength=len(centroids))
        objective += float(distances.sum(dtype=np.float64))
    return sizes, objective


def check_rows(rows: Rows, k: int, name_of: Callable[[int], str]) -> None:
    """TransferError where k-means has no answer: too few rows, too few distinct ones, or values that are no numbers."""
    if rows.count < k:
        raise TransferError(
            f"{rows.count} rows cannot make {k} clusters: lower k, or take more images"
        )
    distinct: set[int] = set()
    for first, block in rows.blocks():
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise TransferError(
                f"the features of {name_of(first + int((~finite).argmax()))} are not finite numbers"
            )
        if len(distinct) < k:
            distinct.update(
                hash(row.tobytes()) for row in block + 0.0
            )  # + 0: -0 becomes 0, which it equals
    if len(distinct) < k:
        raise TransferError(
            f"only {len(distinct)} of {rows.count} rows are distinct, too few for {k} clusters: "
            "did the network collapse, or does the set hold copies?"
        )


def _assigned(
    rows: Rows, centroids: numpy.ndarray, gpu: int | None
) -> Iterator[tuple[int, numpy.ndarray, numpy.ndarray, numpy.ndarray]]:
    """(first row, rows, their squared distances, their centroids) by panels."""
    assigner = Assigner(centroids, gpu)
    for start, block in rows.blocks():
        for at in range(0, len(block), PANEL):
            panel = block[at : at + PANEL]
            distances, labels = assigner.nearest(panel)
            yield start + at, panel, distances[:, 0], labels[:, 0]


def _add_to_sums(sums: numpy.ndarray, panel: numpy.ndarray, labels: numpy.ndarray) -> None:
    """Add each row to its cluster's sum: a product with a sparse matrix of ones, in float32, which is exact enough.

    Not by torch: its threads wait busily between two calls, and take the processor from FAISS's.
    """
    few = len(panel) < len(sums)
    into, places = np.unique(labels, return_inverse=True) if few else (slice(None), labels)
    ones, ends = np.ones(len(panel), np.float32), np.arange(len(panel) + 1)
    height = len(into) if few else len(sums)
    sums[into] += sparse.csc_matrix((ones, places, ends), shape=(height, len(panel))) @ panel


def _reseed_empty(
    rows: Rows,
    centroids: numpy.ndarray,
    sizes: numpy.ndarray,
    inertia: numpy.ndarray,
    farthest: numpy.ndarray,
) -> int:
    """Set empty clusters, in place, beside the loosest ones (one each); how many.

    The direction is that of the donor's farthest row, in which its rows surely differ: about half of them follow.
    """
    empty = np.flatnonzero(sizes == 0)
    donors = np.argsort(-inertia, kind="stable")[: len(empty)]
    donors = donors[inertia[donors] > 0]
    if not len(donors):
        return 0
    rank = farthest[donors].argsort()
    far = np.empty((len(donors), rows.width), dtype=np.float32)
    far[rank] = _gather_rows(rows, farthest[donors][rank])
    placed = centroids[donors] + NUDGE * (far - centroids[donors])
    moved = (placed != centroids[donors]).any(axis=1)
    centroids[empty[: len(donors)][moved]] = placed[moved]
    return int(moved.sum())


def _gather_rows(rows: Rows, chosen: numpy.ndarray) -> numpy.ndarray:
    """The rows of the numbers in `chosen`, which ascend."""
    parts = [
        block[chosen[slice(*np.searchsorted(chosen, (first, first + len(block))))] - first]
        for first, block in rows.blocks()
    ]
    return np.concatenate(parts)


def _kmeans_plus_plus(sample: numpy.ndarray, k: int, random: numpy.random.RandomState) -> list[int]:
    """k-means++ (Arthur & Vassilvitskii 2007): each next row is drawn with the square of its distance to the others."""
    points = torch.from_numpy(sample)
    points = points - points.mean(0)  # about the middle, where float32 has digits for differences
    squares = points.square().sum(1)
    chosen = [int(random.randint(len(sample)))]
    nearest = torch.full((len(sample),), float("inf"))
    while len(chosen) < k:
        last = points[chosen[-1]]
        nearest = torch.minimum(
            nearest, (squares - 2 * (points @ last) + last.square().sum()).clamp(min=0)
        )
        nearest[chosen[-1]] = 0
        weights = nearest.double().cumsum(0).numpy()
        at = int(np.searchsorted(weights, random.random_sample() * weights[-1], side="right"))
        if (
            weights[-1] <= 0
        ):  # the sample holds fewer distinct rows than k; an iteration fills what stays empty
            at = int(np.setdiff1d(np.arange(len(sample)), chosen)[0])
        chosen.append(min(at, len(sample) - 1))
    return chosen
