"""The protocol `voc_detection` on a miniature set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.evaluate import _faster_rcnn
from stages.evaluate._voc_boxes import boxes_in_squares, detection_target
from stages.evaluate.voc_detection import VocDetection
from tests.stages.handmade import make_work, pinned, run_stage
from tests.stages.voc_handmade import SIZE, model, pack, packed, scenes
from transfer.artifacts import Images, Scores
from transfer.errors import TransferError
from transfer.models.build import build_network
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.runtime import Runtime

GOLDEN = {"AP50": 43.48, "AP50 (area)": 43.54}
QUICK = {
    "batch_size": 4,
    "layer": "conv2",
    "optimizer": "adamw",
    "learning_rate": 2e-3,
    "schedule": "constant",
    "anchors": [0.35],
    "regions_per_image": 32,
}
FC = {"name": "alexnet", "width": 0.03125, "stem": "small"}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Images]:
    return packed(
        tmp_path_factory.mktemp("sets"), scenes("trainval", 24, 0.1), scenes("test", 12, 0.1)
    )


@pytest.fixture(autouse=True)
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(_faster_rcnn, "HIDDEN_UNITS", 32)


def run(folder: Path, sets: dict[str, Images], spec: Any = "conv4", **options: Any) -> Scores:
    stage = VocDetection(model="model", **{**QUICK, **options})
    return run_stage(stage, folder / "made", sets, model=model(folder / "model", spec))


def test_published_settings_are_the_defaults() -> None:
    stage = VocDetection(model="model")
    assert (stage.batch_size, stage.learning_rate, stage.weight_decay, stage.regions_per_image) == (
        2,
        1e-3,
        5e-4,
        128,
    )
    assert stage.epochs * 5011 / stage.batch_size == pytest.approx(150_000, rel=0.003)
    assert [
        stage.learning_rate_at(stage.epochs * share) for share in (0.3, 0.4, 0.7)
    ] == pytest.approx([1e-3, 1e-4, 1e-5])


@pytest.mark.slow
def test_the_figure_is_pinned_and_named(sets: dict, tmp_path: Path) -> None:
    made = run(tmp_path, sets, epochs=12)
    # Half-learned, and so at the mercy of another processor's rounding.
    assert {name: made.figures[name] for name in GOLDEN} == pinned(GOLDEN, elsewhere=5.0)
    assert set(made.figures) == {*GOLDEN, "AP50 red", "AP50 green", "AP50 blue"}
    card = made.card
    assert card.protocol.startswith("voc_detection/faster-rcnn-v1 (")
    assert card.main == "AP50"
    low, high = card.intervals["AP50"]
    assert low <= made.figures["AP50"] <= high
    wanted = sum(not hard for one in scenes("test", 12, 0.1) for *_, hard in one.objects)
    assert card.counts == {"train": 24, "test": 12, "classes": 3, "boxes": wanted}


@pytest.mark.slow
def test_it_learns_where_squares_are(sets: dict, tmp_path: Path) -> None:
    assert run(tmp_path, sets, epochs=40).figures["AP50"] > 90


def test_the_order_of_test_images_changes_nothing(sets: dict, tmp_path: Path) -> None:
    turned = pack(tmp_path / "turned", scenes("test", 12, 0.1)[::-1], "test")
    here, there = (
        run(tmp_path / name, {**sets, "test": one.by_id()}, epochs=1)
        for name, one in (("a", sets["test"]), ("b", turned))
    )
    assert here.figures == pytest.approx(there.figures, abs=1e-6)
    assert here.card.intervals["AP50"] == pytest.approx(there.card.intervals["AP50"], abs=1e-6)


def test_the_same_seed_gives_the_same_bytes(sets: dict, tmp_path: Path) -> None:
    made = [run(tmp_path / name, sets, epochs=1) for name in "ab"]
    assert (
        made[0].folder.joinpath("scores.json").read_bytes()
        == made[1].folder.joinpath("scores.json").read_bytes()
    )


def test_truth_lies_in_the_packed_square_and_is_mirrored_with_it(sets: dict) -> None:
    truth = boxes_in_squares(sets["test"])
    pixels = np.array(sets["test"].pixels)
    for row, boxes_of_image in enumerate(truth):
        corners, labels, hard = boxes_of_image
        target = detection_target(boxes_of_image, SIZE, torch.device("cpu"))
        for flipped, image in ((False, pixels[row]), (True, pixels[row][:, ::-1])):
            boxes = target["boxes"].numpy() if flipped else corners[~hard]
            for (left, top, right, bottom), label in zip(
                boxes.round().astype(int), labels[~hard], strict=True
            ):
                inside = image[top + 1 : bottom - 1, left + 1 : right - 1, label]
                assert inside.mean() > 200
        assert target["labels"].tolist() == (labels[~hard] + 1).tolist()


def test_an_image_draws_its_examples_whatever_else_is_in_the_batch() -> None:
    from stages.evaluate._faster_rcnn import SampledRegions

    random = np.random.RandomState(0)
    matched = [torch.from_numpy(random.randint(-1, 3, size)) for size in (200, 90, 140)]

    def drawn(rows: list[int]) -> list[tuple[list[int], list[int]]]:
        examples = SampledRegions(40, 0.25)
        examples.rng = PerImageRng(1, torch.tensor(rows))
        found = examples([matched[row] for row in rows])
        return [
            (a.nonzero()[:, 0].tolist(), b.nonzero()[:, 0].tolist())
            for a, b in zip(*found, strict=True)
        ]

    together = drawn([0, 1, 2])
    assert together[1:] == drawn([1, 2])
    for row, (objects, grounds) in enumerate(together):
        assert (len(objects), len(grounds)) == (10, min(30, int((matched[row] == 0).sum())))
        assert (matched[row][objects] >= 1).all()
        assert (matched[row][grounds] == 0).all()


@pytest.mark.parametrize(
    ("spec", "layer", "own"), [(FC, None, True), (FC, "conv3", False), ("conv4", None, False)]
)
def test_a_network_with_fully_connected_layers_has_them_behind_its_regions(
    spec: Any, layer: str | None, own: bool
) -> None:
    from stages.evaluate._faster_rcnn import detector
    from stages.evaluate._frozen_batchnorm import FrozenBatchNormNetwork, map_layer
    from transfer.models import backbone

    network = build_network(backbone(spec), 0)
    chosen = map_layer(network.spec, network.shapes(64), layer, pools=False)
    made = detector(network, chosen, 3, 64, Runtime("cpu"), [0.3], 32, 0.01, seed=0)
    assert chosen == layer or chosen == {"conv4": "conv4"}.get(
        spec if isinstance(spec, str) else "", "conv5"
    )
    held = {id(one) for one in made.get_submodule("roi_heads.box_head").parameters()}
    fc = {
        id(one)
        for name in ("fc6", "fc7")
        if hasattr(network, name)
        for one in network.get_submodule(name).parameters()
    }
    assert (held == fc) is own
    whole = FrozenBatchNormNetwork({"detector": made}).train()
    images, target = (
        torch.rand(2, 3, 64, 64),
        {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([2])},
    )
    made.set_rng(PerImageRng(0, torch.arange(2)))
    torch.stack(list(made(list(images), [target, target]).values())).sum().backward()
    still = [
        name for name, one in whole.named_parameters() if one.requires_grad and one.grad is None
    ]
    assert still == []


def test_boxes_that_all_lie_outside_or_are_difficult_teach_nothing(
    sets: dict, tmp_path: Path
) -> None:
    hard = scenes("trainval", 8)
    for one in hard:
        one.objects = [(0, (0, 0, 5, 35), False), (1, (10, 10, 20, 20), True)]
    with pytest.raises(TransferError, match="the training images have no box to learn from"):
        run(tmp_path, {**sets, "train": pack(tmp_path / "hard", hard, "trainval")})


def test_what_cannot_be_is_refused(sets: dict, tmp_path: Path) -> None:
    bare = {**sets, "test": pack(tmp_path / "bare", scenes("test", 5), "test", annotate=False)}
    with pytest.raises(TransferError, match="split 'test' have no annotations"):
        run(tmp_path / "a", bare)
    with pytest.raises(
        TransferError,
        match=r"layer: layer avgpool of conv4 is not a map.*choose from: conv1, ",
    ):
        run(tmp_path / "b", sets, layer="avgpool")


def test_a_class_absent_from_the_test_split_is_left_out_with_a_note(
    sets: dict, tmp_path: Path
) -> None:
    some = [one for one in scenes("test", 30) if all(label != 2 for label, _, _ in one.objects)]
    work = make_work(
        tmp_path,
        {**sets, "test": pack(tmp_path / "some", some, "test")},
        {"model": model(tmp_path / "m")},
    )
    VocDetection(model="model", epochs=0, **QUICK).run(work)
    assert work.notes == ["left out of the mean, because the test split lacks them: blue"]
    assert "AP50 blue" not in Scores(work.folder).figures
