"""Protocols beyond linear probes and k-NN: pinned figures, resume, order of images, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.evaluate._probe_presets import PRESETS
from stages.evaluate.finetune import Finetune
from stages.evaluate.knn import Knn
from stages.evaluate.linear import Linear
from stages.evaluate.lowshot import Lowshot
from stages.evaluate.nonlinear import Nonlinear, reinit_after
from stages.evaluate.retrieval import Retrieval
from tests.stages.evaluate.test_linear import model
from tests.stages.handmade import StopsAt, make_work, pack_images, pinned, run_stage, shuffled
from transfer.artifacts import Scores
from transfer.errors import Interrupted, TransferError

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


@pytest.mark.slow
@pytest.mark.parametrize("name", PINNED)
def test_a_second_run_gives_the_same_bytes(name: str, sets: dict, tmp_path: Path) -> None:
    stage, fixed = PINNED[name][0], model(tmp_path / "m")
    made = [run_stage(stage, tmp_path / str(run), sets, model=fixed).folder for run in range(2)]
    for file in ("scores.json", "scores.h5"):
        assert (made[0] / file).read_bytes() == (made[1] / file).read_bytes()


@pytest.mark.slow
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


def probe(variant: Any) -> Linear:
    return Linear(model="model", variant=variant, epochs=2)


ORDERED = {name: stage for name, (stage, _) in PINNED.items()} | {
    "knn": Knn(model="model"),
    **{variant: probe(variant) for variant in PRESETS},
}


@pytest.mark.slow
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
    from stages.evaluate.nonlinear import published_crop

    fixed, stage = model(tmp_path / "m"), Nonlinear(model="model", **SHORT)
    network = reinit_after(fixed, ["conv1", "conv2"], seed=7)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    work = make_work(tmp_path / "w", sets, {"model": fixed})
    finetune(
        work,
        "lesson",
        FinetuneConfig(stage, published_crop, 10, frozen=("conv1", "conv2")),
        network,
        fixed,
        np.arange(100),
    )
    after = network.state_dict()
    for name, one in before.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(one, after[name]) == name.startswith(("conv1", "conv2")), name


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
        TransferError,
        match=r"50 labels of each class are asked for, but class '.*' has 10 training images",
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
        made.card.protocol
        == 'nonlinear/noroozi2016-v2 (epochs 2, batch_size 32, frozen_up_to ["conv4"], size 64)'
    )
    assert made.card.counts == {"train": 100, "test": 60}
