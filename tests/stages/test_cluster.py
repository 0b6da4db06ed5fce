"""The `cluster` stage: its files, notes and errors, and that it resumes where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import stages.cluster
from stages.cluster import Cluster, _load, _save
from transfer.artifacts import Clusters, Features
from transfer.errors import Interrupted, InvalidOption, TransferError
from transfer.numerics.kmeans import LloydState
from transfer.stage.context import StageContext

Make = Callable[..., StageContext]


def planned(count: int | None, prepared: bool = False) -> Any:
    """A plan's features, of `count` images; None: the plan does not show how many."""
    images = (
        {} if count is None else {"images": SimpleNamespace(stage=SimpleNamespace(count=count))}
    )
    features = SimpleNamespace(images=images, inputs={})
    return SimpleNamespace(images={}, inputs={"features": features}) if prepared else features


def test_writes_centroids_sizes_and_the_objective_of_every_iteration(
    features_of: Callable[..., Features], work_for: Make, blobs: Callable[..., np.ndarray]
) -> None:
    values = blobs(k=5)
    features = features_of(values)
    work = work_for(features=features)
    Cluster(features="features", k=5, iterations=6, n_init=2).run(work)
    made = Clusters(work.folder)
    assert made.centroids.shape == (5, 8)
    assert made.sizes.tolist() == [80] * 5
    assert made.space == features.space
    assert len(made.objective) == work.figures["iterations"] + 1
    exact = np.square(values[:, None] - made.centroids).sum(axis=2).min(axis=1).sum()
    assert made.objective[-1] == pytest.approx(exact, rel=1e-4)
    assert work.figures["entropy"] == pytest.approx(1)
    assert work.figures["imbalance"] == pytest.approx(1)
    assert work.figures["empty"] == 0
    assert work.notes == []


def test_the_best_of_several_tries_is_kept(
    features_of: Callable[..., Features], work_for: Make, blobs: Callable[..., np.ndarray]
) -> None:
    features = features_of(blobs(k=12, apart=3))
    found = {}
    for tries in (1, 2, 5):
        work = work_for(f"{tries}", features=features)
        Cluster(features="features", k=12, init="random", n_init=tries).run(work)
        found[tries] = work.figures["objective"]
    assert found[5] <= found[2] <= found[1]
    assert found[5] < found[1]


@pytest.mark.parametrize(
    "iterations_before", [0, 1, 3, 4, 5, 7]
)  # of 4 + 4: also between the tries
def test_a_resumed_run_gives_the_bytes_of_a_straight_one(
    features_of: Callable[..., Features],
    work_for: Make,
    blobs: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    iterations_before: int,
) -> None:
    features = features_of(blobs(k=30, apart=1))
    stage = Cluster(features="features", k=12, iterations=4, n_init=2)
    straight = work_for("straight", features=features)
    stage.run(straight)

    interrupted, done = work_for("resumed", features=features), []
    real = stages.cluster.lloyd_step

    def counted(*given: Any) -> LloydState:
        if len(done) == iterations_before:
            interrupted.stop.number = 15
        done.append(1)
        return real(*given)

    monkeypatch.setattr(stages.cluster, "lloyd_step", counted)
    with pytest.raises(Interrupted):
        stage.run(interrupted)
    assert not (interrupted.folder / "clusters.h5").exists()
    done.clear()
    monkeypatch.setattr(stages.cluster, "lloyd_step", lambda *given: done.append(1) or real(*given))
    resumed = work_for("resumed", features=features)
    stage.run(resumed)
    assert len(done) == 8 - iterations_before
    assert (resumed.folder / "clusters.h5").read_bytes() == (
        straight.folder / "clusters.h5"
    ).read_bytes()
    assert resumed.figures == straight.figures


def test_a_stop_after_an_iteration_keeps_its_checkpoint(
    features_of: Callable[..., Features],
    work_for: Make,
    blobs: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = work_for(features=features_of(blobs()))

    def saved(path: Path, state: LloydState) -> None:
        _save(path, state)
        work.stop.number = 2

    monkeypatch.setattr(stages.cluster, "_save", saved)
    with pytest.raises(Interrupted) as stopped:
        Cluster(features="features", k=5).run(work)
    assert stopped.value.exit_code == 130
    state = _load(work.checkpoints / "try-0.npz")
    assert state is not None
    assert len(state.objective) == 1
    assert "iteration 1 of 20" in work.saved_progress()["progress"]


@pytest.mark.parametrize("kept", [0, 10, 100, -1])
def test_a_torn_checkpoint_is_no_checkpoint(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "try-0.npz"
    assert _load(path) is None
    _save(path, LloydState(np.ones((3, 2), np.float32), [5.0, 4.0], 1, True))
    whole = _load(path)
    assert whole is not None
    assert (whole.objective, whole.splits, whole.settled) == ([5.0, 4.0], 1, True)
    path.write_bytes(path.read_bytes()[:kept])
    assert _load(path) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_no_numbers_are_named(
    features_of: Callable[..., Features],
    work_for: Make,
    blobs: Callable[..., np.ndarray],
    bad: float,
) -> None:
    values = blobs()
    values[123, 4] = bad
    features = features_of(values)
    with pytest.raises(TransferError, match=features.ids[123]):
        Cluster(features="features", k=5).run(work_for(features=features))


def test_collapse_and_copies_are_told(
    features_of: Callable[..., Features], work_for: Make, blobs: Callable[..., np.ndarray]
) -> None:
    with pytest.raises(TransferError, match="only 1 of 400 rows are distinct"):
        Cluster(features="features", k=5).run(
            work_for("one", features=features_of(np.ones((400, 8)), "one"))
        )
    values = blobs()
    values[:300] = values[0]
    work = work_for("most", features=features_of(values, "most"))
    Cluster(features="features", k=20).run(work)
    assert any(
        "one cluster holds 75 % of all rows; did the features collapse?" in note
        for note in work.notes
    )
    assert work.figures["largest"] == 300


def test_empty_clusters_are_told(work_for: Make) -> None:
    work = work_for()
    Cluster(features="features", k=4)._report(
        work, np.array([5, 0, 5, 0]), 1.0, LloydState(np.ones((4, 1)))
    )
    assert work.figures["empty"] == 2
    assert work.notes == ["2 of 4 clusters are empty; `assign` leaves them out"]
    with pytest.raises(TransferError, match="collapsed"):
        Cluster(features="features", k=2)._report(
            work, np.array([5, 0]), 1.0, LloydState(np.ones((2, 1)))
        )


@pytest.mark.parametrize("prepared", [False, True])
def test_more_clusters_than_images_is_found_in_the_plan(prepared: bool) -> None:
    stage = Cluster(features="features", k=50)

    def plan(count: int | None) -> Any:
        return SimpleNamespace(inputs={"features": planned(count, prepared)})

    stage.validate_plan(plan(50))
    stage.validate_plan(plan(None))
    with pytest.raises(InvalidOption, match="50 clusters of 49 images"):
        stage.validate_plan(plan(49))
