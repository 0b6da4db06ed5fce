"""The protocol `voc_classification` on a miniature set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.evaluate.voc_classification import VocClassification
from tests.stages.handmade import make_work, pinned, run_stage
from tests.stages.voc_handmade import model, pack, packed, scenes
from transfer.artifacts import Images, Scores
from transfer.errors import Interrupted, TransferError
from transfer.transforms.per_image_rng import PerImageRng

FC = {"name": "alexnet", "width": 0.03125, "stem": "small"}
GOLDEN = {"mAP": 69.76, "mAP (1 crop)": 57.73, "mAP (11 points)": 73.25}
QUICK = {"epochs": 3, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Images]:
    return packed(
        tmp_path_factory.mktemp("sets"), scenes("trainval", 48, 0.1), scenes("test", 40, 0.1)
    )


def run(folder: Path, sets: dict[str, Images], spec: Any = "conv4", **options: Any) -> Scores:
    stage = VocClassification(model="model", **{**QUICK, **options})
    return run_stage(stage, folder / "made", sets, model=model(folder / "model", spec))


def test_published_settings_are_the_defaults() -> None:
    stage = VocClassification(model="model")
    assert (
        stage.batch_size,
        stage.learning_rate,
        stage.weight_decay,
        stage.clip_grad_norm,
        stage.crops,
    ) == (
        16,
        1e-3,
        1e-6,
        10,
        10,
    )
    assert stage.epochs * 5011 / stage.batch_size == pytest.approx(80_000, rel=0.002)
    eighths = [
        stage.learning_rate_at(stage.epochs * share) for share in (0, 0.124, 0.126, 0.26, 0.99)
    ]
    assert eighths == [1e-3, 1e-3, 5e-4, 2.5e-4, 1e-3 / 2**7]


def test_the_figure_is_pinned_and_named(sets: dict, tmp_path: Path) -> None:
    made = run(tmp_path, sets)
    found = {name: made.figures[name] for name in GOLDEN}
    assert found == pinned(GOLDEN, elsewhere=2.0)
    assert set(made.figures) == {*GOLDEN, "AP red", "AP green", "AP blue"}
    assert made.card["main"] == "mAP"
    assert (
        made.card["protocol"]
        == "voc_classification/krahenbuhl2016-v1 (epochs 3, learning_rate 0.02)"
    )
    assert made.card["counts"] == {"train": 48, "test": 40, "classes": 3}
    low, high = made.card["intervals"]["mAP"]
    assert low < found["mAP"] < high


def test_the_order_of_test_images_changes_nothing(sets: dict, tmp_path: Path) -> None:
    shown = scenes("test", 40, 0.1)
    turned = pack(
        tmp_path / "turned",
        [shown[row] for row in np.random.RandomState(0).permutation(40)],
        "test",
    )
    here, there = (
        run(tmp_path / name, {**sets, "test": one.by_id()}, epochs=1)
        for name, one in (("a", sets["test"]), ("b", turned))
    )
    assert here.figures == pytest.approx(there.figures, abs=1e-9)
    assert here.card["intervals"]["mAP"] == pytest.approx(there.card["intervals"]["mAP"], abs=1e-9)


def test_a_stopped_run_ends_as_a_straight_one(sets: dict, tmp_path: Path) -> None:
    from tests.stages.handmade import stop_after

    straight = run(tmp_path / "a", sets)
    stage, inputs = VocClassification(model="model", **QUICK), {"model": model(tmp_path / "model")}
    work = make_work(tmp_path / "b", sets, inputs)
    stop_after(work, 4)
    with pytest.raises(Interrupted):
        stage.run(work)
    work = make_work(tmp_path / "b", sets, inputs)
    stage.run(work)
    assert Scores(work.folder).figures == straight.figures


@pytest.mark.parametrize(
    ("row", "fixed"),
    [("all", []), ("fc6-8", ["conv1", "conv5"]), ("fc8", ["conv1", "conv5", "fc6", "fc7"])],
)
def test_a_row_trains_its_layers_and_no_other(
    row: Any, fixed: list[str], sets: dict, tmp_path: Path
) -> None:
    from stages.evaluate import voc_classification as module

    kept: dict[str, torch.Tensor] = {}
    network: Any = None

    class Watched(VocClassification):
        def _network(self, *arguments: Any) -> Any:
            nonlocal network
            network = super()._network(*arguments)
            kept.update(
                {name: value.detach().clone() for name, value in network.state_dict().items()}
            )
            return network

    assert module.VocClassification is Watched.__base__
    run_stage(
        Watched(model="model", train=row, **QUICK),
        tmp_path / "w",
        sets,
        model=model(tmp_path / "m", FC),
    )
    changed = {
        name.split(".")[1]
        for name, value in network.state_dict().items()
        if not torch.equal(value, kept[name])
    }
    assert (
        changed - {"weight", "bias"}
        == {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"}
        - {
            "all": set(),
            "fc6-8": {"conv1", "conv2", "conv3", "conv4", "conv5"},
            "fc8": {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"},
        }[row]
    )
    assert not changed & set(fixed)
    assert "weight" in changed


def test_crops_are_windows_of_the_published_share_inside_the_image() -> None:
    maps = VocClassification(model="model").crop(PerImageRng(0, torch.arange(4000)))
    sides = maps[:, 0, 0].abs()
    assert torch.equal(sides, maps[:, 1, 1])
    assert sides.min() == pytest.approx(227 / 375 / 2, abs=0.001)
    assert sides.max() == 1
    assert (maps[:, :, 2].abs() + sides[:, None] <= 1 + 1e-6).all()
    assert (maps[:, 0, 0] < 0).float().mean() == pytest.approx(0.5, abs=0.03)


def test_gradients_are_shortened_to_the_clip() -> None:
    layer = torch.nn.Linear(4, 4)
    optimizer = VocClassification(
        model="model", clip_grad_norm=0.5, momentum=0.0, learning_rate=1.0
    ).make_optimizer(layer)
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = 1.0, 0.0
    before = torch.cat([one.detach().flatten() for one in layer.parameters()])
    (100 * layer(torch.ones(1, 4))).sum().backward()
    optimizer.step()
    after = torch.cat([one.detach().flatten() for one in layer.parameters()])
    assert torch.linalg.vector_norm(after - before) == pytest.approx(0.5, rel=1e-4)


def test_difficult_images_are_neither_learned_nor_asked(tmp_path: Path) -> None:
    hard = scenes("trainval", 32)
    for one in hard:
        one.objects = [(label, corners, label == 1) for label, corners, _ in one.objects]
    both = packed(tmp_path, hard, scenes("test", 20))
    made = run(tmp_path / "run", both, epochs=1)
    assert made.card["counts"]["classes"] == 3
    assert "only the test split shows: green" in run_notes(tmp_path / "again", both)


def run_notes(folder: Path, sets: dict[str, Images]) -> list[str]:
    work = make_work(folder, sets, {"model": model(folder / "model")})
    VocClassification(model="model", epochs=0).run(work)
    return work.notes


def test_a_class_absent_from_the_test_split_is_left_out_with_a_note(
    sets: dict, tmp_path: Path
) -> None:
    some = [one for one in scenes("test", 60) if all(label != 2 for label, _, _ in one.objects)]
    work = make_work(
        tmp_path,
        {**sets, "test": pack(tmp_path / "some", some, "test")},
        {"model": model(tmp_path / "m")},
    )
    VocClassification(model="model", epochs=0).run(work)
    assert work.notes == ["left out of the mean, because the test split lacks them: blue"]
    assert "AP blue" not in Scores(work.folder).figures


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "show 0 of 3 classes, and no"),
        ([0], "show 1 of 3 classes, and no class is in some images but not in others"),
    ],
)
def test_training_images_that_are_all_alike_are_refused(
    labels: list[int], message: str, sets: dict, tmp_path: Path
) -> None:
    alike = scenes("trainval", 20)
    for one in alike:
        one.objects = [(label, (8, 8, 12, 12), False) for label in labels]
    work = make_work(
        tmp_path,
        {**sets, "train": pack(tmp_path / "t", alike, "trainval")},
        {"model": model(tmp_path / "m")},
    )
    with pytest.raises(TransferError, match=message):
        VocClassification(model="model").run(work)


def test_sets_without_annotations_and_networks_without_the_layers_are_refused(
    sets: dict, tmp_path: Path
) -> None:
    bare = {**sets, "test": pack(tmp_path / "bare", scenes("test", 5), "test", annotate=False)}
    with pytest.raises(TransferError, match="split 'test' have no annotations; choose a set"):
        run(tmp_path / "a", bare)
    with pytest.raises(
        TransferError, match=r"conv4 has no layers fc6 and fc7 .* use `train: all` or `train: fc8`"
    ):
        run(tmp_path / "b", sets, train="fc6-8")
