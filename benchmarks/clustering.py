"""K-means beside FAISS's own and scikit-learn's, and the memory of clustering rows from disk.

    python benchmarks/clustering.py [--rows 60000 --width 512 --k 500 --iterations 20 --rounds 3]

All begin at the same random rows and pass over every row as often. They take turns in one process.
The objective is the sum of squared distances to the final centroids. The same code measures it for
all.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # before FAISS: the other order is known to crash on some platforms  # isort: skip
import faiss
import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import seconds_of, status_bytes, take_turns
from transfer.artifacts import Features
from transfer.numerics import kmeans
from transfer.stage.feature_blocks import FeatureRows
from transfer.storage.hdf5_tables import TableWriter, encode_strings

MIB = 1 << 20


@dataclass
class ArrayRows:
    """An array as rows to cluster, in blocks as large as those of Features."""

    values: np.ndarray

    def __post_init__(self):
        self.count, self.width = self.values.shape

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        size = max(1, (4 << 20) // self.width)
        for first in range(0, self.count, size):
            yield first, self.values[first : first + size]


def blobs(rows: int, width: int, k: int) -> np.ndarray:
    """(rows, width) float32: overlapping blobs after a ReLU, as hard to separate as features.

    Args:
        rows: How many.
        width: Values of each.
        k: How many blobs.
    """
    random = np.random.default_rng(0)
    values = random.standard_normal((rows, width), dtype=np.float32)
    centers = random.standard_normal((k, width), dtype=np.float32)
    values += centers[random.integers(k, size=rows)] / 2
    return np.maximum(values, 0)


def by_transfer(rows: kmeans.Rows, first: np.ndarray, iterations: int) -> np.ndarray:
    state = kmeans.LloydState(first)
    while len(state.objective) < iterations and not state.settled:
        state = kmeans.lloyd_step(rows, state)
    return state.centroids


def by_faiss(values: np.ndarray, first: np.ndarray, iterations: int) -> np.ndarray:
    size = 10_000_000  # rows a centroid at most: all of them count, and none are sampled
    kmeans = faiss.Kmeans(
        values.shape[1],
        len(first),
        niter=iterations,
        max_points_per_centroid=size,
        min_points_per_centroid=1,
    )
    kmeans.train(values, init_centroids=first)
    return np.asarray(kmeans.centroids)


def by_sklearn(values: np.ndarray, first: np.ndarray, iterations: int) -> np.ndarray:
    options: dict[str, Any] = {"init": first, "n_init": 1, "max_iter": iterations, "tol": 0}
    kmeans = KMeans(len(first), algorithm="lloyd", **options)
    return kmeans.fit(values).cluster_centers_.astype(np.float32)


def growth(work: Callable[[], object]) -> int:
    """The most bytes that the process held while `work` ran, beyond those before it."""
    before, most, done = status_bytes("VmRSS"), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.002):
            most = max(most, status_bytes("VmRSS"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(0, most - before)


def on_disk(folder: Path, values: np.ndarray) -> Features:
    """`values` as a Features artifact."""
    ids = encode_strings([f"{row:09}" for row in range(len(values))])
    columns = {"features": ((values.shape[1],), "float16"), "ids": ((), ids.dtype.str)}
    facts = {"space": {}, "layer": "", "preparation": []}
    with TableWriter(folder / "features.h5", len(values), columns, **facts) as table:
        for first in range(0, len(values), 4096):
            table.append(features=values[first : first + 4096].astype(np.float16))
        table.append(ids=ids)
    return Features(folder)


def memory(values: np.ndarray, first: np.ndarray, limit: int) -> float:
    """MiB that two iterations over a Features artifact add where `limit` bytes of rows are kept."""
    kmeans.IN_MEMORY = limit
    with tempfile.TemporaryDirectory() as folder:
        rows = FeatureRows(on_disk(Path(folder), values))
        return growth(lambda: by_transfer(rows, first, 2)) / MIB


def main() -> None:
    parser = options_parser(__doc__)
    defaults = {"rows": 60_000, "width": 512, "k": 500, "iterations": 20, "rounds": 3}
    for name, value in (defaults | {"threads": torch.get_num_threads()}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parsed(parser, rows=2000, width=16, k=10, iterations=3, rounds=1)
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    threadpool_limits(options.threads)
    values = blobs(options.rows, options.width, options.k)
    rows = ArrayRows(values)
    first = kmeans.initial_centroids(rows, options.k, "random", 0).centroids
    methods: dict[str, Callable[[], np.ndarray]] = {
        "transfer": lambda: by_transfer(rows, first, options.iterations),
        "faiss.Kmeans": lambda: by_faiss(values, first, options.iterations),
        "scikit-learn": lambda: by_sklearn(values, first, options.iterations),
    }
    centroids: dict[str, np.ndarray] = {}

    def seconds(name: str) -> float:
        return seconds_of(lambda: centroids.update({name: methods[name]()}))

    with Report(__file__, options) as report:
        sides = {name: lambda name=name: seconds(name) for name in methods}
        rounds = take_turns(sides, options.rounds, warm_up=False)
        report.compare("k-means", "s", rounds, "transfer", "faiss.Kmeans")
        report.compare("k-means", "s", rounds, "transfer", "scikit-learn")
        objective = {name: kmeans.cluster_sizes(rows, centroids[name])[1] for name in methods}
        for name in list(methods)[1:]:
            excess = 100 * (float(objective["transfer"] / objective[name]) - 1)
            report.add(f"objective of transfer above that of {name}", excess, "%")
        start = seconds_of(lambda: kmeans.initial_centroids(rows, options.k, "k-means++", 0))
        report.add("start by k-means++", start, "s")
        quarter = values[: max(options.k, len(values) // 4)]
        added = memory(quarter, first, 0)
        report.add(f"memory, {quarter.nbytes / MIB:.0f} MiB of rows from disk", added, "MiB")
        for name, limit in (("from disk", 0), ("kept in memory", 2 * values.nbytes)):
            added = memory(values, first, limit)
            report.add(f"memory, {values.nbytes / MIB:.0f} MiB of rows {name}", added, "MiB")


if __name__ == "__main__":
    main()
