"""K-means beside FAISS's own and scikit-learn's, and the memory of clustering rows that are not kept in it.

    python benchmarks/kmeans.py [--rows 60000 --width 512 --k 500 --iterations 20]

All begin at the same random rows, pass over every row as often, and run in turn in one process; seconds are medians.
The objective is the sum of squared distances to the final centroids, measured by the same code for all.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch  # before FAISS: the other order is known to crash on some platforms  # isort: skip
import faiss
import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from transfer.artifacts import Features
from transfer.numerics import kmeans
from transfer.storage.hdf5_tables import TableWriter, encode_strings

TIMES = 3


@dataclass
class Held:
    """An array as rows to cluster, in blocks as large as those of Features."""

    values: np.ndarray

    def __post_init__(self):
        self.count, self.width = self.values.shape

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        size = max(1, (4 << 20) // self.width)
        for first in range(0, self.count, size):
            yield first, self.values[first : first + size]


def drawn(rows: int, width: int, k: int) -> np.ndarray:
    """(rows, width) float32: overlapping blobs after a ReLU, which are as hard to tell apart as a layer's features."""
    random = np.random.default_rng(0)
    values = random.standard_normal((rows, width), dtype=np.float32)
    values += (
        random.standard_normal((k, width), dtype=np.float32)[random.integers(k, size=rows)] / 2
    )
    return np.maximum(values, 0)


def ours(rows: kmeans.Rows, first: np.ndarray, iterations: int) -> np.ndarray:
    state = kmeans.LloydState(first)
    while len(state.objective) < iterations and not state.settled:
        state = kmeans.lloyd_step(rows, state)
    return state.centroids


def of_faiss(values: np.ndarray, first: np.ndarray, iterations: int) -> np.ndarray:
    own = faiss.Kmeans(
        values.shape[1], len(first), niter=iterations, max_points_per_centroid=10_000_000
    )
    own.train(values, init_centroids=first)
    return own.centroids


def of_sklearn(values: np.ndarray, first: np.ndarray, iterations: int) -> np.ndarray:
    own = KMeans(len(first), init=first, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
    return own.fit(values).cluster_centers_.astype(np.float32)


def resident() -> int:
    """Bytes of memory that the process holds now."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    return int(line.split()[1]) << 10


def peak(work: Callable[[], object]) -> int:
    """The most bytes that the process held while `work` ran, beyond those before it."""
    before, most, done = resident(), 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.002):
            most = max(most, resident())

    watcher = threading.Thread(target=look)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(0, most - before)


def streamed(folder: Path, values: np.ndarray) -> Features:
    """`values` as a Features artifact on disk."""
    ids = encode_strings([f"{row:09}" for row in range(len(values))])
    columns = {"features": ((values.shape[1],), "float16"), "ids": ((), ids.dtype.str)}
    with TableWriter(
        folder / "features.h5", len(values), columns, space={}, layer="", preparation=[]
    ) as table:
        for first in range(0, len(values), 4096):
            table.append(features=values[first : first + 4096].astype(np.float16))
        table.append(ids=ids)
    return Features(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = {
        "rows": 60_000,
        "width": 512,
        "k": 500,
        "iterations": 20,
        "threads": torch.get_num_threads(),
    }
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    faiss.omp_set_num_threads(asked.threads)
    threadpool_limits(asked.threads)
    values = drawn(asked.rows, asked.width, asked.k)
    first, rows = (
        kmeans.initial_centroids(Held(values), asked.k, "random", 0).centroids,
        Held(values),
    )
    methods = {
        "faiss.Kmeans": lambda: of_faiss(values, first, asked.iterations),
        "transfer": lambda: ours(rows, first, asked.iterations),
        "sklearn KMeans": lambda: of_sklearn(values, first, asked.iterations),
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    objective = {}
    for _ in range(TIMES):
        for name, method in methods.items():
            begun = time.perf_counter()
            centroids = method()
            seconds[name].append(time.perf_counter() - begun)
            objective[name] = kmeans.cluster_sizes(rows, centroids)[1]
    medians = {name: statistics.median(all_) for name, all_ in seconds.items()}
    print(
        f"{asked.rows} x {asked.width}, k = {asked.k}, {asked.iterations} iterations, {asked.threads} threads"
    )
    print(f"{'':16}{'seconds':>9}{'ratio':>8}{'objective':>15}")
    for name, median in medians.items():
        print(
            f"{name:16}{median:9.2f}{median / medians['faiss.Kmeans']:8.2f}{objective[name]:15.6e}"
        )
    begun = time.perf_counter()
    kmeans.initial_centroids(rows, asked.k, "k-means++", 0)
    print(f"k-means++ start {time.perf_counter() - begun:9.2f}")

    memory(values[: len(values) // 4], first, 0, "streamed, a quarter")
    memory(values, first, 0, "streamed")
    memory(values, first, 2 * values.nbytes, "kept")


def memory(values: np.ndarray, first: np.ndarray, limit: int, what: str) -> None:
    """Print what two iterations over a Features artifact need where `limit` bytes of rows may be kept."""
    kmeans.IN_MEMORY = limit
    with tempfile.TemporaryDirectory() as folder:
        rows = kmeans.FeatureRows(streamed(Path(folder), values))
        begun = time.perf_counter()
        most = peak(lambda: ours(rows, first, 2))
        seconds = time.perf_counter() - begun
    print(
        f"{what}: {values.nbytes >> 20} MiB of rows, {seconds:.2f} s, at most {most >> 20} MiB more than before"
    )


if __name__ == "__main__":
    main()
