"""K-means over blocks: as good as scikit-learn's, the same for the same seed, and open about what went wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from transfer.artifacts import Features
from transfer.errors import TransferError
from transfer.numerics import kmeans
from transfer.numerics.kmeans import (
    Assigner,
    LloydState,
    check_rows,
    cluster_sizes,
    faiss_gpu,
    initial_centroids,
    lloyd_step,
)
from transfer.stage import feature_blocks
from transfer.stage.feature_blocks import FeatureRows
from transfer.storage.hdf5_tables import encode_strings, write_table


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


class Held:
    """An array as rows, in blocks of `size`; counts its passes and the rows of the largest block."""

    def __init__(self, values: np.ndarray, size: int = 1000):
        self.values, self.size, (self.count, self.width) = (
            values.astype(np.float32),
            size,
            values.shape,
        )
        self.passes = 0

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        self.passes += 1
        for first in range(0, self.count, self.size):
            yield first, self.values[first : first + self.size]


def blobs(n: int = 600, d: int = 6, k: int = 8, apart: float = 3.0) -> np.ndarray:
    random = np.random.default_rng(1)
    return apart * random.standard_normal((k, d))[
        random.integers(k, size=n)
    ] + random.standard_normal((n, d))


def lloyd(
    rows: kmeans.Rows, k: int, iterations: int = 30, init: str = "k-means++", seed: int = 0
) -> LloydState:
    state = initial_centroids(rows, k, init, seed)
    while len(state.objective) < iterations and not state.settled:
        state = lloyd_step(rows, state)
    return state


def labels_of(values: np.ndarray, state: LloydState) -> np.ndarray:
    return Assigner(state.centroids).nearest(values.astype(np.float32))[1][:, 0]


def test_heavy_libraries_are_imported_when_first_used() -> None:
    script = """
import sys
import transfer.numerics.kmeans, transfer.numerics.feature_transforms, stages.cluster, stages.assign, stages.prepare
heavy = {"torch", "numpy", "faiss", "scipy", "h5py"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_objective_is_that_of_scikit_learn_and_never_rises(init: str) -> None:
    values = blobs()
    states = [lloyd(Held(values), 8, init=init, seed=seed) for seed in range(4)]
    for state in states:
        assert (np.diff(state.objective) <= 1e-5 * state.objective[0]).all()
    ours = min(cluster_sizes(Held(values), state.centroids)[1] for state in states)
    theirs = KMeans(8, n_init=4, random_state=0).fit(values).inertia_
    assert ours <= 1.01 * theirs


def test_an_iteration_is_scikit_learns() -> None:
    values = blobs()
    first = initial_centroids(Held(values), 8, "random", 0)
    theirs = KMeans(8, init=first.centroids, n_init=1, max_iter=1, tol=0).fit(
        values.astype(np.float32)
    )
    np.testing.assert_allclose(
        lloyd_step(Held(values), first).centroids, theirs.cluster_centers_, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_same_seed_same_bytes_other_seed_other_start(init: str) -> None:
    rows = Held(blobs())
    one, two, other = (initial_centroids(rows, 8, init, seed).centroids for seed in (3, 3, 4))
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != other.tobytes()
    assert lloyd(rows, 8, seed=3).centroids.tobytes() == lloyd(rows, 8, seed=3).centroids.tobytes()


@pytest.mark.parametrize("size", [1, 7, 64, 599])
def test_block_size_changes_no_label_of_a_row_between_no_two_clusters(size: int) -> None:
    values = blobs()
    whole, parts = lloyd(Held(values), 8), lloyd(Held(values, size), 8)
    away = np.sqrt(Assigner(whole.centroids).nearest(values.astype(np.float32), 2)[0])
    assert (away[:, 1] - away[:, 0]).min() > 0.01, "rounding could change a label"
    np.testing.assert_array_equal(labels_of(values, whole), labels_of(values, parts))
    np.testing.assert_allclose(whole.objective[-1], parts.objective[-1], rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [6, 500])
def test_rows_beside_a_row_change_its_distance_by_rounding_alone(width: int, threads: int) -> None:
    faiss.omp_set_num_threads(threads)
    random = np.random.default_rng(0)
    rows = random.standard_normal((900, width), np.float32)
    centroids = rows[::30] + np.float32(0.1)
    assigner, order = Assigner(centroids), random.permutation(900)
    exact = np.square(rows[:, None].astype(np.float64) - centroids).sum(-1)
    squares = np.square(rows).sum(-1)
    apart = 1e-5 * (squares + np.square(centroids).sum(-1).max())
    for chosen in (slice(0, 1), slice(0, 19), slice(0, 20), slice(7, 300), order, slice(None)):
        distances, numbers = assigner.nearest(rows[chosen])
        assert (np.abs(distances[:, 0] - exact[chosen].min(1)) <= apart[chosen]).all()
        taken = np.take_along_axis(exact[chosen], numbers, 1)[:, 0]
        assert (taken - exact[chosen].min(1) <= 2 * apart[chosen]).all()


@pytest.mark.parametrize("k", [3, 100])  # fewer clusters than a panel has rows, and more
def test_sums_count_every_row_once(k: int) -> None:
    random = np.random.default_rng(0)
    panel, labels = random.standard_normal((40, 5), dtype=np.float32), random.integers(k, size=40)
    sums = np.ones((k, 5))
    kmeans._add_to_sums(sums, panel, labels)
    expected = 1 + np.stack([panel[labels == cluster].sum(axis=0) for cluster in range(k)])
    np.testing.assert_allclose(sums, expected, atol=1e-5)


def test_long_blocks_are_taken_by_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    values = blobs()
    whole = lloyd(Held(values), 8, 5)
    monkeypatch.setattr(kmeans, "PANEL", 50)
    parts = lloyd(Held(values), 8, 5)
    np.testing.assert_allclose(whole.centroids, parts.centroids, rtol=1e-5, atol=1e-5)


def test_settles_and_stops_moving() -> None:
    rows = Held(blobs(apart=20))
    state = lloyd(rows, 8, 100)
    assert state.settled
    assert len(state.objective) < 100
    assert lloyd_step(rows, state).centroids.tobytes() == state.centroids.tobytes()


@pytest.mark.parametrize(
    "values",
    [blobs(300, 4, 3), np.repeat(blobs(300, 1, 3), 4, axis=1)],
    ids=["blobs", "one direction"],
)
def test_empty_clusters_are_filled_and_the_objective_does_not_rise(values: np.ndarray) -> None:
    first = np.repeat(values[:1], 10, axis=0)  # most centroids get no row
    state = LloydState(first.astype(np.float32))
    for _ in range(15):
        state = lloyd_step(Held(values), state)
    sizes, objective = cluster_sizes(Held(values), state.centroids)
    assert state.splits > 0
    assert (sizes > 0).all()
    assert (np.diff([*state.objective, objective]) <= 1e-5 * state.objective[0]).all()


def test_as_many_clusters_as_distinct_rows_among_copies() -> None:
    distinct = np.arange(6, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    rows = Held(distinct[[0] * 200 + [1, 2, 3, 4, 5]])
    check_rows(rows, 6, str)
    state = lloyd(rows, 6, init="random")
    sizes, objective = cluster_sizes(rows, state.centroids)
    assert sorted(sizes) == [1, 1, 1, 1, 1, 200]
    assert objective == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("far", [0, 3000])
def test_labels_far_from_the_origin_are_those_of_the_differences(far: float) -> None:
    values = (blobs(apart=1) + far).astype(np.float32)
    centroids = values[:20]
    exact = np.square(values[:, None].astype(np.float64) - centroids).sum(axis=2)
    distances, labels = Assigner(centroids).nearest(values, 2)
    chosen = np.take_along_axis(exact, labels, 1)
    np.testing.assert_allclose(chosen, np.sort(exact, axis=1)[:, :2], atol=1e-3)
    np.testing.assert_allclose(distances, chosen, atol=1e-3)


def test_distances_that_overflow_are_told() -> None:
    huge = np.full((40, 4), 1e25, np.float32) * np.arange(40, dtype=np.float32)[:, None]
    with pytest.raises(TransferError, match="too large for float32"):
        lloyd_step(Held(huge), LloydState(np.ones((2, 4), np.float32)))


@pytest.mark.parametrize(
    ("values", "k", "told"),
    [
        (np.eye(3), 4, "3 rows cannot make 4 clusters"),
        (np.ones((50, 3)), 2, "only 1 of 50 rows are distinct, too few for 2 clusters"),
        (np.array([[0.0], [-0.0], [1.0]]), 3, "only 2 of 3 rows"),
        (
            np.where(np.arange(60).reshape(20, 3) == 40, np.nan, 1),
            2,
            "features of image 13 are not finite",
        ),
        (
            np.where(np.arange(60).reshape(20, 3) == 0, np.inf, 1),
            2,
            "features of image 0 are not finite",
        ),
    ],
)
def test_rows_that_cannot_be_clustered_are_told(values: np.ndarray, k: int, told: str) -> None:
    with pytest.raises(TransferError, match=told):
        check_rows(Held(values, 4), k, lambda row: f"image {row}")


def test_seeding_is_capped_in_memory_and_spreads(monkeypatch: pytest.MonkeyPatch) -> None:
    values = blobs(k=8, apart=50)
    assert (
        len(
            np.unique(
                labels_of(
                    values, LloydState(initial_centroids(Held(values), 8, "k-means++", 0).centroids)
                )
            )
        )
        == 8
    )
    found = initial_centroids(Held(values), 8, "k-means++", 0).centroids
    apart = np.square(found[:, None] - found).sum(axis=2) + 1e9 * np.eye(8)
    assert apart.min() > 100  # one row of each blob
    monkeypatch.setattr(kmeans, "IN_MEMORY", 0)
    assert initial_centroids(Held(values), 8, "k-means++", 0).centroids.shape == (8, 6)


@pytest.mark.parametrize(("limit", "reads"), [(0, 3), (1 << 30, 1)])
def test_features_are_kept_only_where_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, reads: int
) -> None:
    monkeypatch.setattr(feature_blocks, "IN_MEMORY", limit)
    values = blobs().astype(np.float32)
    ids = encode_strings([str(row) for row in range(len(values))])
    write_table(tmp_path / "features.h5", {"features": values, "ids": ids})
    features, opened = Features(tmp_path), []
    read, paused = features.blocks, []
    monkeypatch.setattr(features, "blocks", lambda: opened.append(1) or read(100))
    rows = FeatureRows(features, lambda: paused.append(1))
    for _ in range(3):
        np.testing.assert_array_equal(np.concatenate([block for _, block in rows.blocks()]), values)
    assert len(opened) == reads
    assert len(paused) == 3 * 6


def test_an_interrupted_first_pass_is_not_taken_for_all_rows(tmp_path: Path) -> None:
    values = blobs().astype(np.float32)
    write_table(
        tmp_path / "features.h5", {"features": values, "ids": encode_strings(["x"] * len(values))}
    )
    rows = FeatureRows(Features(tmp_path))
    next(rows.blocks())
    assert sum(len(block) for _, block in rows.blocks()) == len(values)


def test_the_cpu_is_no_gpu() -> None:
    assert faiss_gpu("cpu") is None
    assert faiss_gpu("cuda:99") is None


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or faiss_gpu("cuda") is None, reason="no GPU that FAISS can use"
)
def test_the_gpu_finds_what_the_cpu_finds() -> None:
    values = blobs(apart=10)
    on_cpu, on_gpu = (
        lloyd_step(Held(values), initial_centroids(Held(values), 8, "random", 0), gpu)
        for gpu in (None, faiss_gpu("cuda"))
    )
    np.testing.assert_allclose(on_cpu.centroids, on_gpu.centroids, rtol=1e-4, atol=1e-4)
