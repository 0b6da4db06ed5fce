"""The `assign` stage: compact labels, true distances, and only features of the centroids' space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.assign import Assign
from stages.extract.network import ExtractNetwork
from stages.prepare import Prepare
from transfer.artifacts import Clusters, Features, PseudoLabels
from transfer.errors import Interrupted, InvalidOption, TransferError
from transfer.models import backbone
from transfer.stage.context import StageContext
from transfer.stage.feature_space import planned_space
from transfer.storage.hdf5_tables import write_table

from .conftest import SPACE

Make = Callable[..., StageContext]


@pytest.fixture
def clusters_of(tmp_path: Path) -> Callable[..., Clusters]:
    def write(centroids: np.ndarray, sizes: list[int], space: dict[str, Any] = SPACE) -> Clusters:
        columns = {
            "centroids": centroids.astype(np.float32),
            "sizes": np.array(sizes),
            "objective": np.zeros(1),
        }
        write_table(tmp_path / "clusters.h5", columns, space=space, layer="conv5", preparation=[])
        return Clusters(tmp_path)

    return write


def assigned(work: StageContext) -> PseudoLabels:
    Assign(features="features", clusters="clusters").run(work)
    return PseudoLabels(work.folder)


@pytest.mark.parametrize(("d", "far"), [(1, 0), (8, 0), (300, 0), (8, 2000)])
def test_labels_and_distances_are_those_of_brute_force(
    features_of: Callable[..., Features],
    work_for: Make,
    clusters_of: Callable[..., Clusters],
    d: int,
    far: float,
) -> None:
    random = np.random.default_rng(d)
    values = (random.standard_normal((500, d)) + far).astype(np.float32)
    centroids = values[:40]  # so that some distances are zero
    features = features_of(values)
    made = assigned(work_for(features=features, clusters=clusters_of(centroids, [1] * 40)))
    exact = np.sqrt(np.square(values[:, None].astype(np.float64) - centroids).sum(axis=2))
    nearest_two = np.sort(exact, axis=1)[:, :2]
    found = np.stack([made.table.read("distance"), made.table.read("runner_up")], axis=1)
    np.testing.assert_allclose(found, nearest_two, rtol=1e-4, atol=2e-6 * max(1, far))
    own = exact[np.arange(500), made.cluster_ids[made.labels]]
    np.testing.assert_allclose(own, nearest_two[:, 0], rtol=1e-4, atol=2e-6 * max(1, far))
    assert made.ids == features.ids
    assert made.of([features.ids[7], "unknown"]).tolist() == [made.labels[7], -1]


def test_labels_are_compact_and_an_empty_cluster_is_no_runner_up(
    features_of: Callable[..., Features], work_for: Make, clusters_of: Callable[..., Clusters]
) -> None:
    centroids = np.array([[0.0], [5.0], [100.0], [9.0], [900.0]])
    values = np.array([[0.5], [8.0], [8.5], [-1.0]])
    work = work_for(features=features_of(values), clusters=clusters_of(centroids, [3, 0, 1, 4, 2]))
    made = assigned(work)
    assert made.cluster_ids.tolist() == [0, 3]
    assert made.labels.tolist() == [0, 1, 1, 0]
    assert made.count == 2
    np.testing.assert_allclose(made.table.read("distance"), [0.5, 1, 0.5, 1], rtol=1e-6)
    np.testing.assert_allclose(made.table.read("runner_up"), [8.5, 8, 8.5, 10], rtol=1e-6)
    assert work.figures == {"images": 4, "labels": 2, "unused": 3}
    assert made.table.attributes == {"clusters": "clusters key", "features": "features key", "k": 5}


def test_one_label_for_most_or_all_images_is_told(
    features_of: Callable[..., Features], work_for: Make, clusters_of: Callable[..., Clusters]
) -> None:
    clusters = clusters_of(np.array([[0.0], [10.0]]), [1, 1])
    work = work_for(features=features_of(np.array([[0.0], [1.0], [2.0], [9.0]])), clusters=clusters)
    assigned(work)
    assert work.notes == ["75 % of all images got the same label"]
    with pytest.raises(TransferError, match="same label"):
        assigned(work_for("one", features=features_of(np.zeros((4, 1)), "one"), clusters=clusters))


def test_what_cannot_be_compared_is_refused(
    features_of: Callable[..., Features], work_for: Make, clusters_of: Callable[..., Clusters]
) -> None:
    clusters = clusters_of(np.eye(2), [1, 1])
    with pytest.raises(TransferError, match="differ in network"):
        assigned(
            work_for(
                features=features_of(np.eye(2), space=SPACE | {"layer": "conv4"}), clusters=clusters
            )
        )
    values = np.eye(2)
    values[1, 0] = np.nan
    features = features_of(values, "bad")
    with pytest.raises(TransferError, match=features.ids[1]):
        assigned(work_for(features=features, clusters=clusters))


def test_a_stop_is_heeded(
    features_of: Callable[..., Features], work_for: Make, clusters_of: Callable[..., Clusters]
) -> None:
    work = work_for(features=features_of(np.eye(2)), clusters=clusters_of(np.eye(2), [1, 1]))
    work.stop.number = 2
    with pytest.raises(Interrupted):
        assigned(work)


def extracted(name: str = "f", model: str = "m", **options: Any) -> Any:
    options = {"layer": "conv5", "pool": 2, "pooling": "max"} | options
    stage = SimpleNamespace(backbone_spec=lambda: backbone("alexnet"))
    inputs = {"model": SimpleNamespace(key=model, stage=stage)}
    stage = ExtractNetwork(model=model, **options)
    return SimpleNamespace(name=name, key=name, inputs=inputs, stage=stage)


def prepared(features: Any, name: str, like: Any = None) -> Any:
    inputs = {"features": features} | ({"like": like} if like else {})
    stage = Prepare(features=features.name, like=like.name if like else None)
    return SimpleNamespace(name=name, key=name, inputs=inputs, stage=stage)


FITTED = prepared(extracted("a"), "fitted")


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        (extracted("a"), extracted("b"), True),  # of another image set
        (
            extracted(layer=None),
            extracted(layer=backbone("alexnet").default_layer()),
            True,
        ),  # the network's own choice
        (extracted(layer="conv4"), extracted(), False),
        (extracted(model="other"), extracted(), False),
        (extracted(pool=1), extracted(), False),
        (extracted(pooling="average"), extracted(), False),
        (extracted(), FITTED, False),
        (FITTED, FITTED, True),
        (prepared(extracted("b"), "own"), FITTED, False),  # fitted again: another space
        (prepared(extracted("b"), "taken", like=FITTED), FITTED, True),
        (
            prepared(extracted("c"), "again", like=prepared(extracted("b"), "taken", like=FITTED)),
            FITTED,
            True,
        ),
    ],
)
def test_other_features_are_found_in_the_plan(ours: Any, theirs: Any, same: bool) -> None:
    assert (planned_space(ours) == planned_space(theirs)) is same
    clusters = SimpleNamespace(name="clusters", inputs={"features": theirs})
    plan: Any = SimpleNamespace(inputs={"features": ours, "clusters": clusters})
    stage = Assign(features="x", clusters="y")
    if same:
        stage.validate_plan(plan)
    else:
        with pytest.raises(InvalidOption, match="with `like` for a preparation"):
            stage.validate_plan(plan)
