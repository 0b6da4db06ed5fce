"""The protocol `clusters`, against literal counts and on a miniature set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.evaluate import clusters as metrics
from stages.evaluate.clusters import EvaluateClusters
from stages.evaluate.retrieval import Retrieval
from tests.stages.evaluate.test_linear import model
from tests.stages.handmade import make_work, pack_images, run_stage
from transfer.artifacts import Images, PseudoLabels
from transfer.errors import TransferError


def labelling(
    folder: Path, images: Images, labels: np.ndarray, cluster_ids: list[int]
) -> PseudoLabels:
    folder.mkdir()
    far = np.ones(len(images), np.float32)
    k = max(cluster_ids) + 1
    PseudoLabels.write(
        folder, images.ids, labels, np.array(cluster_ids), far, far, clusters="c", features="f", k=k
    )
    return PseudoLabels(folder)


@pytest.mark.slow
def test_clusters_that_are_classes_score_a_hundred(sets: dict, tmp_path: Path) -> None:
    images = sets["train"]
    renamed = (images.labels + 3) % 10
    pseudo = labelling(tmp_path / "l", images, renamed, list(range(10)))
    made = run_stage(
        EvaluateClusters(labels="l"), tmp_path / "w", {"images": images}, labels=pseudo
    )
    for name in ("nmi", "ami", "ari", "hungarian", "purity"):
        assert made.figures[name] == pytest.approx(100)
    assert made.card.settings["empty"] == 0
    assert {name: made.card.intervals[name] for name in ("nmi", "ami", "ari", "hungarian")} == {
        name: pytest.approx([100, 100]) for name in ("nmi", "ami", "ari", "hungarian")
    }
    sparse = labelling(tmp_path / "s", images, renamed, [0, 2, 3, 5, 6, 7, 8, 9, 11, 12])
    made = run_stage(
        EvaluateClusters(labels="l"), tmp_path / "v", {"images": images}, labels=sparse
    )
    wanted = {"k": 13, "empty": 3, "smallest": 0, "largest": 10, "imbalance": 1.3}
    assert made.card.settings == pytest.approx(wanted)
    assert made.card.counts == {"images": 100}


@pytest.mark.slow
def test_intervals_of_clusters_lie_about_their_figures_and_shrink_with_images(
    tmp_path: Path,
) -> None:
    random, widths = np.random.RandomState(0), []
    for count in (200, 3200):
        true = random.randint(0, 4, count)
        named = np.where(random.rand(count) < 0.6, true, random.randint(0, 4, count))
        figures = metrics.cluster_agreement(true, named)
        spans = metrics.agreement_intervals(figures, true, named, make_work(tmp_path / str(count)))
        assert all(low < figures[name] < high for name, (low, high) in spans.items())
        widths.append({name: high - low for name, (low, high) in spans.items()})
    for name, wide in widths[0].items():
        assert wide / widths[1][name] == pytest.approx(4, rel=0.35), name  # the square root of 16


@pytest.mark.parametrize("kind", [Retrieval, EvaluateClusters])
def test_one_class_alone_has_no_figure(kind: type, sets: dict, tmp_path: Path) -> None:
    zeros = np.zeros(100, np.int64)
    images = {
        "train": pack_images(tmp_path / "one", np.array(sets["train"].pixels), zeros),
        "test": sets["test"],
    }
    if kind is EvaluateClusters:
        pseudo = labelling(tmp_path / "l", images["train"], sets["train"].labels, list(range(10)))
        work = make_work(tmp_path, {"images": images["train"]}, {"labels": pseudo})
    else:
        work = make_work(tmp_path, images, {"model": model(tmp_path / "m")})
    with pytest.raises(TransferError, match="have one label"):
        kind(**({"labels": "l"} if kind is EvaluateClusters else {"model": "m"})).run(work)


def test_cluster_figures_equal_literal_counts() -> None:
    random = np.random.RandomState(0)
    true, named = random.randint(0, 3, 200), random.randint(0, 5, 200)
    most = [np.bincount(true[named == one], minlength=3).max() for one in range(5)]
    assert metrics.majority_accuracy(true, named).mean() == pytest.approx(100 * sum(most) / 200)
    from itertools import permutations

    counts = metrics.contingency(true, named)
    best = max(
        sum(counts[cluster, label] for label, cluster in enumerate(some))
        for some in permutations(range(5), 3)
    )
    assert metrics.cluster_agreement(true, named)["hungarian"] == pytest.approx(100 * best / 200)
    sizes = np.bincount(named)
    share = sizes / 200
    even = metrics.size_figures(named, 5)
    assert even["entropy"] == pytest.approx(100 * -sum(s * np.log(s) for s in share) / np.log(5))
    assert even["imbalance"] == pytest.approx(5 * sum(s * s for s in share))
    assert metrics.size_figures(np.array([0, 0, 2]), 4)["empty"] == 2


def test_labels_of_another_set_are_refused(sets: dict, tmp_path: Path) -> None:
    pseudo = labelling(tmp_path / "l", sets["test"], sets["test"].labels, list(range(10)))
    with pytest.raises(TransferError, match="another set"):
        run_stage(
            EvaluateClusters(labels="l"), tmp_path / "w", {"images": sets["train"]}, labels=pseudo
        )
