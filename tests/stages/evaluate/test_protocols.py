"""The protocols beyond linear probes and k-NN: each figure against a literal computation, pinned, and its errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.evaluate import clusters as metrics
from stages.evaluate._probe_presets import PRESETS
from stages.evaluate.clusters import EvaluateClusters
from stages.evaluate.fidelity import Fidelity
from stages.evaluate.finetune import Finetune
from stages.evaluate.knn import Knn
from stages.evaluate.linear import Linear
from stages.evaluate.lowshot import Lowshot
from stages.evaluate.nonlinear import Nonlinear, reinit_after
from stages.evaluate.retrieval import Retrieval, average_precision, rank_gallery
from stages.target.pseudo_label import PseudoLabel
from tests.stages.evaluate.test_linear import model
from tests.stages.handmade import StopsAt, make_work, pack_images, pinned, run_stage, shuffled
from transfer.artifacts import Images, Model, PseudoLabels, Scores
from transfer.datasets.drawings import render
from transfer.errors import Interrupted, TransferError


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Images]:
    folder = tmp_path_factory.mktemp("sets")
    return {
        split: pack_images(
            folder / split, render.render(split, range(n)), render.labels(split)[:n], split
        )
        for split, n in (("train", 100), ("test", 60))
    }


SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 32}
# With fixed weights and images, and 60 images that are scored.
PINNED: dict[str, tuple[Any, dict[str, float]]] = {
    "retrieval": (
        Retrieval(model="model", layer="conv3", pool=2),
        {"mAP": 17.23, "recall at 1": 18.33, "recall at 10": 75.0, "recall at 5": 55.0},
    ),
    "finetune": (
        Finetune(model="model", label_budgets=[0.5, 1.0], **SHORT),
        {
            "finetuned, 100 %": 6.67,
            "finetuned, 50 %": 8.33,
            "random weights, 100 %": 13.33,
            "random weights, 50 %": 10.0,
        },
    ),
    "nonlinear": (
        Nonlinear(model="model", frozen_up_to=["conv2", "conv4"], **SHORT),
        {"conv2": 10.0, "conv4": 11.67, "deepest": 11.67},
    ),
    "lowshot": (
        Lowshot(model="model", label_budgets=[2, 0.5], repeats=2, layer="conv3", **SHORT),
        {
            "finetuned, 2 a class": 6.67,
            "finetuned, 50 %": 7.5,
            "linear, 2 a class": 15.0,
            "linear, 50 %": 27.5,
        },
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_figures_of_fixed_weights_do_not_drift(name: str, sets: dict, tmp_path: Path) -> None:
    stage, figures = PINNED[name]
    made = run_stage(stage, tmp_path / "w", sets, model=model(tmp_path / "m"))
    assert made.figures == pinned(figures, elsewhere=3.4)
    assert made.card.main in made.figures
    for figure in made.card.intervals:
        low, high = made.card.intervals[figure]
        assert low <= made.figures[figure] <= high
        assert made.outcomes(figure).mean() == pytest.approx(made.figures[figure], abs=1e-3)


@pytest.mark.parametrize("name", PINNED)
def test_a_second_run_gives_the_same_bytes(name: str, sets: dict, tmp_path: Path) -> None:
    stage, fixed = PINNED[name][0], model(tmp_path / "m")
    made = [run_stage(stage, tmp_path / str(run), sets, model=fixed).folder for run in range(2)]
    for file in ("scores.json", "scores.h5"):
        assert (made[0] / file).read_bytes() == (made[1] / file).read_bytes()


def test_a_lesson_that_was_stopped_goes_on_where_it_was(sets: dict, tmp_path: Path) -> None:
    stage, fixed = Finetune(model="model", epochs=3, batch_size=32), model(tmp_path / "m")
    straight = run_stage(stage, tmp_path / "a", sets, model=fixed)
    work = make_work(tmp_path / "b", sets, {"model": fixed})
    work.__class__ = type("StopsAtFive", (StopsAt,), {"stop_at": 5})  # of the lesson's own work too
    with pytest.raises(Interrupted):
        stage.run(work)
    resumed = run_stage(stage, tmp_path / "b", sets, model=fixed)
    assert resumed.figures == straight.figures
    assert (resumed.folder / "scores.h5").read_bytes() == (
        straight.folder / "scores.h5"
    ).read_bytes()


def test_both_networks_of_a_fine_tuning_leave_a_curve_that_ends_in_their_figures(
    sets: dict, tmp_path: Path
) -> None:
    from transfer.storage.hdf5_tables import TableReader

    made = run_stage(
        Finetune(model="model", **SHORT), tmp_path / "w", sets, model=model(tmp_path / "m")
    )
    table = TableReader(made.folder / "scores.h5")
    for figure in ("finetuned", "random weights"):
        curve = table.read(f"curve.{figure}")
        assert curve.shape == (1, 3)
        assert curve[0, -1] == pytest.approx(made.figures[figure], abs=1e-3)


ORDERED = {name: stage for name, (stage, _) in PINNED.items()} | {
    "knn": Knn(model="model"),
    **{one: Linear(model="model", variant=one, epochs=2) for one in PRESETS},
}


@pytest.mark.parametrize("name", ORDERED)
def test_the_order_in_which_images_lie_changes_nothing(
    name: str, sets: dict, tmp_path: Path
) -> None:
    fixed, other = (
        model(tmp_path / "m"),
        {role: shuffled(tmp_path / role, one) for role, one in sets.items()},
    )
    both = [
        run_stage(
            ORDERED[name],
            tmp_path / f"w{number}",
            {role: one.by_id() for role, one in images.items()},
            model=fixed,
        ).folder
        for number, images in enumerate((sets, other))
    ]
    for file in ("scores.json", "scores.h5"):
        assert (both[0] / file).read_bytes() == (both[1] / file).read_bytes()


def test_average_precision_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    random = np.random.RandomState(0)
    queries, bank = (
        torch.nn.functional.normalize(torch.from_numpy(random.randn(n, 8)), dim=1) for n in (20, 70)
    )
    wanted, labels = (
        torch.from_numpy(random.randint(0, 4, 20)),
        torch.from_numpy(random.randint(0, 4, 70)),
    )
    hits = labels[rank_gallery(queries, bank)] == wanted[:, None]
    expected = [
        average_precision_score((labels == one).numpy(), (query @ bank.T).numpy())
        for one, query in zip(wanted, queries, strict=True)
    ]
    np.testing.assert_allclose(average_precision(hits).numpy(), expected, atol=1e-12)


def test_a_retrieval_draws_what_it_found(sets: dict, tmp_path: Path) -> None:
    from PIL import Image

    made = run_stage(Retrieval(model="model"), tmp_path / "w", sets, model=model(tmp_path / "m"))
    with Image.open(made.folder / "nearest.png") as picture:
        assert picture.width > picture.height > 1000


def test_queries_of_classes_that_no_training_image_has_are_left_out(
    sets: dict, tmp_path: Path
) -> None:
    train = sets["train"]
    known = np.flatnonzero(train.labels < 5)
    few = pack_images(tmp_path / "few", np.array(train.pixels)[known], train.labels[known])
    made = run_stage(
        Retrieval(model="model"), tmp_path / "w", sets | {"train": few}, model=model(tmp_path / "m")
    )
    assert made.card.counts["test"] == int((sets["test"].labels < 5).sum())


def test_locked_layers_keep_their_weights_and_the_others_are_fresh(tmp_path: Path) -> None:
    fixed = model(tmp_path / "m")
    network, taught = reinit_after(fixed, ["conv1", "conv2"], seed=7), fixed.network()
    same = {
        name: torch.equal(one, taught.state_dict()[name])
        for name, one in network.state_dict().items()
    }
    assert all(same[name] for name in same if name.startswith(("conv1", "conv2")))
    assert not any(
        same[name]
        for name in same
        if name.startswith(("conv3", "conv4")) and name.endswith("conv.weight")
    )


def test_a_locked_training_leaves_the_locked_layers_as_they_were(
    sets: dict, tmp_path: Path
) -> None:
    from stages.evaluate._supervised_training import FinetuneConfig, finetune
    from stages.evaluate.nonlinear import crop

    fixed, stage = model(tmp_path / "m"), Nonlinear(model="model", **SHORT)
    network = reinit_after(fixed, ["conv1", "conv2"], seed=7)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    work = make_work(tmp_path / "w", sets, {"model": fixed})
    finetune(
        work,
        "lesson",
        FinetuneConfig(stage, crop, 10, locked=("conv1", "conv2")),
        network,
        fixed,
        np.arange(100),
    )
    after = network.state_dict()
    for name, one in before.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(one, after[name]) == name.startswith(("conv1", "conv2")), name


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


def test_intervals_of_clusters_lie_about_their_figures_and_shrink_with_images(
    tmp_path: Path,
) -> None:
    random, widths = np.random.RandomState(0), []
    for count in (200, 3200):
        true = random.randint(0, 4, count)
        named = np.where(random.rand(count) < 0.6, true, random.randint(0, 4, count))
        figures = metrics.cluster_agreement(true, named)
        spans = metrics.intervals(figures, true, named, make_work(tmp_path / str(count)))
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
    even = metrics.evenness(named, 5)
    assert even["entropy"] == pytest.approx(100 * -sum(s * np.log(s) for s in share) / np.log(5))
    assert even["imbalance"] == pytest.approx(5 * sum(s * s for s in share))
    assert metrics.evenness(np.array([0, 0, 2]), 4)["empty"] == 2


def test_labels_of_another_set_are_refused(sets: dict, tmp_path: Path) -> None:
    pseudo = labelling(tmp_path / "l", sets["test"], sets["test"].labels, list(range(10)))
    with pytest.raises(TransferError, match="another set"):
        run_stage(
            EvaluateClusters(labels="l"), tmp_path / "w", {"images": sets["train"]}, labels=pseudo
        )


def test_fidelity_goes_through_the_numbers_of_the_clusters(sets: dict, tmp_path: Path) -> None:
    """Colors that a target tells perfectly; both labellings number their clusters on their own."""
    shades = np.arange(90) % 3
    pixels = (
        np.random.RandomState(0).randint(0, 40, (90, 32, 32, 3)) + 80 * shades[:, None, None, None]
    ).astype("u1")
    seen, unseen = (pack_images(tmp_path / name, pixels, None, name) for name in ("seen", "unseen"))
    learned = labelling(tmp_path / "l", seen, shades, [4, 7, 9])
    target = run_stage(
        PseudoLabel(
            labels="l",
            backbone={"name": "conv4"},
            epochs=12,
            batch_size=30,
            learning_rate=0.05,
            crop=1.0,
        ),
        tmp_path / "t",
        {"images": seen},
        labels=learned,
    )
    assert isinstance(target, Model)
    theirs = labelling(tmp_path / "u", unseen, np.array([2, 1, 0])[shades], [9, 7, 4])
    made = run_stage(
        Fidelity(target="t", labels="l", unseen="u"),
        tmp_path / "w",
        {"images": unseen},
        target=target,
        labels=learned,
        unseen=theirs,
    )
    assert made.figures["fidelity"] == 100
    strange = labelling(tmp_path / "s", unseen, np.array([2, 1, 0])[shades], [5, 7, 4])
    made = run_stage(
        Fidelity(target="t", labels="l", unseen="u"),
        tmp_path / "v",
        {"images": unseen},
        target=target,
        labels=learned,
        unseen=strange,
    )
    assert made.figures["fidelity"] == pytest.approx(200 / 3)
    assert made.figures["never learned"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("unseen", "fault"),
    [
        ("limit: 32", "was trained on images of 'others', or of the same split"),
        ("split: train", ""),
    ],
)
def test_images_of_the_split_that_a_target_learned_from_are_not_unseen(
    unseen: str, fault: str, pipeline: Callable[..., Path], invoke: Callable[..., Any]
) -> None:
    file = pipeline(f"""\
name: seen
seed: 0
data: {{card: drawings, limit: 64}}
stages:
  deep: {{uses: pretext/random, backbone: conv4}}
  features: {{uses: extract/network, model: deep}}
  clusters: {{uses: cluster, features: features, k: 4}}
  labels: {{uses: assign, features: features, clusters: clusters}}
  target: {{uses: target/pseudo_label, labels: labels, backbone: conv4, epochs: 1}}
  other_features: {{uses: extract/network, model: deep, data: {{card: drawings, {unseen}}}}}
  others: {{uses: assign, features: other_features, clusters: clusters}}
  fidelity: {{uses: evaluate/fidelity, target: target, labels: labels, unseen: others}}
""")
    assert fault in invoke("run", file, "--dry-run", check=2 if fault else 0).err


def test_a_target_without_a_head_is_told(sets: dict, tmp_path: Path) -> None:
    pseudo = labelling(tmp_path / "l", sets["test"], sets["test"].labels, list(range(10)))
    with pytest.raises(TransferError, match="has no head"):
        run_stage(
            Fidelity(target="t", labels="l", unseen="u"),
            tmp_path / "w",
            {"images": sets["test"]},
            target=model(tmp_path / "m"),
            labels=pseudo,
            unseen=pseudo,
        )


@pytest.mark.parametrize("kind", [Finetune, Nonlinear, Lowshot])
def test_a_training_split_that_teaches_nothing_is_refused(
    kind: type, sets: dict, tmp_path: Path
) -> None:
    train = sets["train"]
    few = pack_images(tmp_path / "few", np.array(train.pixels)[::10], train.labels[::10])
    with pytest.raises(TransferError, match="training images are too few"):
        kind(model="model").run(
            make_work(
                tmp_path, {"train": few, "test": sets["test"]}, {"model": model(tmp_path / "m")}
            )
        )


def test_a_class_with_fewer_images_than_labels_asked_for_is_named(
    sets: dict, tmp_path: Path
) -> None:
    with pytest.raises(
        TransferError, match="asks for 50 labels of each class, and there are 10 training images of"
    ):
        run_stage(
            Lowshot(model="model", label_budgets=[50]),
            tmp_path / "w",
            sets,
            model=model(tmp_path / "m"),
        )


def test_scores_say_what_they_are(sets: dict, tmp_path: Path) -> None:
    made: Scores = run_stage(
        Nonlinear(model="model", frozen_up_to=["conv4"], **SHORT),
        tmp_path / "w",
        sets,
        model=model(tmp_path / "m"),
    )
    assert (
        made.card.protocol == 'nonlinear/noroozi2016-v1 (epochs 2, batch 32, locked ["conv4"])'
    )
    assert made.card.counts == {"train": 100, "test": 60}
