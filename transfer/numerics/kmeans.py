"""K-means over any number of rows: Lloyd's iterations over blocks, with FAISS on a CPU or a GPU.

K-means minimizes the objective sum_x min_c |x - c|^2 over k centroids c. Only the centroids and one
block are in memory; rows stay there too if they fit. Every row counts in every iteration, while
FAISS's own loop samples 256 rows per centroid by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from transfer.errors import TransferError
from transfer.numerics.kmeans_plus_plus import kmeans_plus_plus
from transfer.utils.lazy_imports import faiss, np, sparse

if TYPE_CHECKING:
    import numpy

IN_MEMORY = 2 << 30  # bytes of float32 rows to keep instead of reading them in each iteration
SEEDING_ROWS = 16  # rows per centroid in the sample of k-means++, which needs k passes over it
PANEL = 8192  # rows of a search, and of a sum in float32
NUDGE = 1 / 64  # share of the way from a donor's mean to its farthest row: see `_reseed_empty`


class Rows(Protocol):
    """The data: `count` rows of `width` values."""

    count: int
    width: int

    def blocks(self) -> Iterator[tuple[int, numpy.ndarray]]:
        """Yield (first row, (n, D) float32) over all rows in order."""
        ...


@dataclass
class LloydState:
    """The state after an iteration, from which the next one starts."""

    centroids: numpy.ndarray  # (k, D) float32
    # Sum of squared distances at the start of each iteration.
    objective: list[float] = field(default_factory=list)
    splits: int = 0  # empty clusters that took a part of another
    settled: bool = False  # whether the last iteration moved no centroid


class Assigner:
    """Finds the nearest centroids of rows.

    Args:
        centroids: (k, D) float32.
        gpu: the number of a GPU; None: the CPU.
    """

    def __init__(self, centroids: numpy.ndarray, gpu: int | None = None):
        if gpu is None:
            self._index = faiss.IndexFlatL2(centroids.shape[1])
        else:
            # By default FAISS reserves 1.5 GB of scratch memory, and takes the first GPU.
            self._resources = faiss.StandardGpuResources()
            self._resources.setTempMemory(256 << 20)
            config = faiss.GpuIndexFlatConfig()
            config.device = gpu
            self._index = faiss.GpuIndexFlatL2(self._resources, centroids.shape[1], config)
        # FAISS computes |x|^2 - 2xc + |c|^2 in float32: far from the origin, rounding dominates.
        middle = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = float(np.square(centroids[:1000] - middle).sum(axis=1).mean())
        self._middle = middle if float(middle @ middle) > 16 * spread else None
        centroids = centroids if self._middle is None else centroids - self._middle
        self._index.add(np.ascontiguousarray(centroids, dtype=np.float32))

    def nearest(self, block: numpy.ndarray, count: int = 1) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return squared distances and centroid numbers of (n, D) float32, both (n, count).

        The nearest centroid comes first. FAISS computes distances from products, which its library
        splits by the number of rows: a distance is exact to about 1e-5 of the squared lengths of
        row and centroid. The order of two centroids closer than that may depend on the other rows.
        TransferError if distances overflow.

        Args:
            block: the rows.
            count: number of centroids per row.
        """
        block = block if self._middle is None else block - self._middle
        distances, labels = self._index.search(np.ascontiguousarray(block), count)
        if labels.size and labels.min() < 0:
            raise TransferError(
                "distances are too large for float32, or not finite; standardize the features"
            )
        return np.maximum(distances, 0), labels


def faiss_gpu(device: str) -> int | None:
    """Return the number of a torch device's GPU; None: the CPU, or a GPU that FAISS cannot use."""
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
    """Choose k rows as initial centroids.

    Args:
        rows: the data.
        k: number of centroids.
        init: `random` takes uniform rows; `k-means++` chooses from a uniform sample of rows.
        seed: decides the rows.
    """
    random = np.random.RandomState(seed % (1 << 32))
    pool = k if init == "random" else max(k, min(SEEDING_ROWS * k, IN_MEMORY // (4 * rows.width)))
    chosen = np.sort(random.choice(rows.count, min(rows.count, pool), replace=False))
    sample = _gather_rows(rows, chosen)
    return LloydState(sample if init == "random" else sample[kmeans_plus_plus(sample, k, random)])


def lloyd_step(rows: Rows, state: LloydState, gpu: int | None = None) -> LloydState:
    """Run one iteration of Lloyd's algorithm (1982, "Least squares quantization in PCM").

    Assign each row x to the cluster of its nearest centroid, a(x) = argmin_j |x - c_j|^2, then move
    each centroid to the mean of its rows, c_j = mean {x : a(x) = j}. Neither raises the objective,
    except by rounding. Equal rows in equal blocks give equal bytes, so an iteration that is
    repeated after an interruption has the same result. Empty clusters: see `_reseed_empty`.

    Args:
        rows: the data.
        state: the state to start from.
        gpu: the number of a GPU; None: the CPU.
    """
    k = len(state.centroids)
    sums, sizes, inertia = np.zeros((k, rows.width)), np.zeros(k, dtype=np.int64), np.zeros(k)
    # The farthest row of each cluster, and its squared distance.
    farthest, reach = np.zeros(k, dtype=np.int64), np.zeros(k, np.float32)
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
    """Return the sizes of the clusters (k,), and the objective.

    Args:
        rows: the data.
        centroids: (k, D) float32.
        gpu: the number of a GPU; None: the CPU.
    """
    sizes, objective = np.zeros(len(centroids), dtype=np.int64), 0.0
    for _, _, distances, labels in _assigned(rows, centroids, gpu):
        sizes += np.bincount(labels, minlength=len(centroids))
        objective += float(distances.sum(dtype=np.float64))
    return sizes, objective


def check_rows(rows: Rows, k: int, name_of: Callable[[int], str]) -> None:
    """Raise TransferError for too few rows or distinct rows, and for values that are not finite.

    Args:
        rows: the data.
        k: number of clusters.
        name_of: names the image of a row.
    """
    if rows.count < k:
        raise TransferError(
            f"{rows.count} rows cannot make {k} clusters; lower k, or take more images"
        )
    distinct: set[int] = set()
    for first, block in rows.blocks():
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            image = name_of(first + int((~finite).argmax()))
            raise TransferError(f"the features of {image} are not finite; did the network diverge?")
        if len(distinct) < k:
            # + 0.0 replaces -0 by 0, which is equal but has other bytes.
            distinct.update(hash(row.tobytes()) for row in block + 0.0)
    if len(distinct) < k:
        raise TransferError(
            f"only {len(distinct)} of {rows.count} rows are distinct, too few for {k} clusters; "
            "did the network collapse, or does the set have copies?"
        )


def _assigned(
    rows: Rows, centroids: numpy.ndarray, gpu: int | None
) -> Iterator[tuple[int, numpy.ndarray, numpy.ndarray, numpy.ndarray]]:
    """Yield panels: (first row, rows, their squared distances, their centroids)."""
    assigner = Assigner(centroids, gpu)
    for start, block in rows.blocks():
        for offset in range(0, len(block), PANEL):
            panel = block[offset : offset + PANEL]
            distances, labels = assigner.nearest(panel)
            yield start + offset, panel, distances[:, 0], labels[:, 0]


def _add_to_sums(sums: numpy.ndarray, panel: numpy.ndarray, labels: numpy.ndarray) -> None:
    """Add each row to its cluster's sum, by a product with a sparse matrix of ones in float32.

    torch would be slower: its threads wait busily between calls, and take the CPU from FAISS's.
    """
    ones, ends = np.ones(len(panel), np.float32), np.arange(len(panel) + 1)
    if len(panel) >= len(sums):
        sums += _membership(ones, labels, ends, len(sums)) @ panel
    else:
        clusters, numbers = np.unique(labels, return_inverse=True)
        sums[clusters] += _membership(ones, numbers, ends, len(clusters)) @ panel


def _membership(
    ones: numpy.ndarray, labels: numpy.ndarray, ends: numpy.ndarray, clusters: int
) -> sparse.csc_matrix:
    """The matrix (clusters, rows) with a one where a row belongs to a cluster."""
    return sparse.csc_matrix((ones, labels, ends), shape=(clusters, len(labels)))


def _reseed_empty(
    rows: Rows,
    centroids: numpy.ndarray,
    sizes: numpy.ndarray,
    inertia: numpy.ndarray,
    farthest: numpy.ndarray,
) -> int:
    """Move the centroids of empty clusters, in place, close to donors. Return how many moved.

    Donors are the clusters with the largest sums of squares, one for each empty cluster. The new
    centroid is m + NUDGE (f - m), with m the donor's mean and f its farthest row. The donor's rows
    certainly differ in this direction, so about half of them change cluster.

    Args:
        rows: the data.
        centroids: (k, D) float32.
        sizes: (k,) rows of each cluster.
        inertia: (k,) sum of squared distances of each cluster.
        farthest: (k,) farthest row of each cluster.
    """
    empty = np.flatnonzero(sizes == 0)
    donors = np.argsort(-inertia, kind="stable")[: len(empty)]
    donors = donors[inertia[donors] > 0]
    if not len(donors):
        return 0
    rank = farthest[donors].argsort()
    far = np.empty((len(donors), rows.width), dtype=np.float32)
    far[rank] = _gather_rows(rows, farthest[donors][rank])
    nudged = centroids[donors] + NUDGE * (far - centroids[donors])
    moved = (nudged != centroids[donors]).any(axis=1)
    centroids[empty[: len(donors)][moved]] = nudged[moved]
    return int(moved.sum())


def _gather_rows(rows: Rows, chosen: numpy.ndarray) -> numpy.ndarray:
    """Return the rows with the numbers in `chosen`, which must ascend."""
    parts = []
    for first, block in rows.blocks():
        start, stop = np.searchsorted(chosen, (first, first + len(block)))
        parts.append(block[chosen[start:stop] - first])
    return np.concatenate(parts)
