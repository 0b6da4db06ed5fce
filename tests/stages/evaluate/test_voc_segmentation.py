"""The protocol `voc_segmentation` on a miniature set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.evaluate.voc_segmentation import VocSegmentation, masks_in_squares, pixel_scores
from tests.stages.handmade import make_work, pinned, run_stage
from tests.stages.voc_handmade import SIZE, model, pack, packed, scenes
from transfer.artifacts import Images, Scores
from transfer.errors import TransferError

GOLDEN = {"mIoU": 87.69, "pixels": 97.64}
QUICK = {"layer": "conv2", "batch_size": 8, "learning_rate": 0.2}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Images]:
    return packed(tmp_path_factory.mktemp("sets"), scenes("trainval", 32), scenes("test", 16))


def run(folder: Path, sets: dict[str, Images], **options: Any) -> Scores:
    stage = VocSegmentation(model="model", **{"epochs": 30, **QUICK, **options})
    return run_stage(stage, folder / "made", sets, model=model(folder / "model"))


def test_published_settings_are_the_defaults() -> None:
    stage = VocSegmentation(model="model")
    assert (stage.batch_size, stage.learning_rate, stage.weight_decay, stage.flip) == (
        20,
        1e-4,
        5e-4,
        0,
    )
    assert stage.epochs * 1464 / stage.batch_size == pytest.approx(150_000, rel=0.001)


def test_the_figure_is_pinned_and_named(sets: dict, tmp_path: Path) -> None:
    made = run(tmp_path, sets, epochs=60)
    assert {name: made.figures[name] for name in GOLDEN} == pinned(GOLDEN, elsewhere=2.0)
    assert set(made.figures) == {*GOLDEN, "IoU background", "IoU red", "IoU green", "IoU blue"}
    each = [value for name, value in made.figures.items() if name.startswith("IoU")]
    assert made.figures["mIoU"] == pytest.approx(sum(each) / 4)
    assert made.card.main == "mIoU"
    low, high = made.card.intervals["mIoU"]
    assert low < made.figures["mIoU"] < high
    assert made.card.counts == {"train": 32, "test": 16, "classes": 4}


def test_the_order_of_test_images_changes_nothing(sets: dict, tmp_path: Path) -> None:
    turned = pack(tmp_path / "turned", scenes("test", 16)[::-1], "test")
    here, there = (
        run(tmp_path / name, {**sets, "test": one.by_id()}, epochs=1)
        for name, one in (("a", sets["test"]), ("b", turned))
    )
    assert here.figures == there.figures
    assert here.card.intervals == there.card.intervals


@pytest.mark.slow
def test_masks_are_mirrored_with_their_images(sets: dict, tmp_path: Path) -> None:
    shown = scenes("trainval", 32)
    for one in shown:
        one.pixels, one.mask = one.pixels[:, ::-1], one.mask[:, ::-1]
    turned = pack(tmp_path / "turned", shown, "trainval")
    # Mirrored back, they are what they were, but for the rounding of the resampling.
    both = np.array(turned.pixels, int)[:, :, ::-1], np.array(sets["train"].pixels, int)
    assert np.abs(both[0] - both[1]).max() <= 2
    straight = run(tmp_path / "a", sets).figures["mIoU"]
    assert run(tmp_path / "b", {**sets, "train": turned}, flip=1.0).figures[
        "mIoU"
    ] == pytest.approx(straight, abs=5)


def test_masks_come_to_the_packed_square_and_borders_stay_borders(sets: dict) -> None:
    masks, pixels = masks_in_squares(sets["test"], 4), np.array(sets["test"].pixels)
    assert masks.shape == (16, SIZE, SIZE)
    assert set(np.unique(masks)) == {0, 1, 2, 3, 255}
    for label in range(3):
        inside = masks == label + 1
        assert pixels[..., label][inside].mean() > 190
        assert pixels[..., label][masks == 0].mean() < 60


def test_masks_that_are_missing_or_damaged_are_named(sets: dict, tmp_path: Path) -> None:
    with pytest.raises(
        TransferError, match="trainval000 has no mask; choose a split of segmentation"
    ):
        masks_in_squares(pack(tmp_path / "a", scenes("trainval", 2), "trainval", masks=False), 4)
    with pytest.raises(
        TransferError, match=r"test001: the mask holds 3, which is no class \(0 to 2, or 255"
    ):
        masks_in_squares(sets["test"], 3)
    some = scenes("test", 2)
    some[1].mask = some[1].mask[:-4]
    with pytest.raises(
        TransferError, match="test001: the mask has 48 x 32 px, but the image has 48 x 36 px"
    ):
        masks_in_squares(pack(tmp_path / "b", some, "test"), 4)


def test_masks_of_one_class_and_layers_without_a_map_are_refused(
    sets: dict, tmp_path: Path
) -> None:
    flat = scenes("trainval", 4)
    for one in flat:
        one.mask[:] = 0
    with pytest.raises(TransferError, match="all training masks have one class"):
        run(tmp_path / "a", {**sets, "train": pack(tmp_path / "flat", flat, "trainval")})
    with pytest.raises(TransferError, match="layer avgpool of conv4 is not a map"):
        run(tmp_path / "b", sets, layer="avgpool")


def test_images_that_are_all_border_do_no_harm(sets: dict, tmp_path: Path) -> None:
    shown = scenes("trainval", 16)
    for one in shown[:8]:
        one.mask[:] = 255
    made = run(
        tmp_path, {**sets, "train": pack(tmp_path / "t", shown, "trainval")}, epochs=2, batch_size=2
    )
    assert np.isfinite(made.figures["mIoU"])


def test_a_class_absent_from_the_test_split_is_left_out_with_a_note(
    sets: dict, tmp_path: Path
) -> None:
    some = [one for one in scenes("test", 30) if all(label != 2 for label, _, _ in one.objects)]
    work = make_work(
        tmp_path,
        {**sets, "test": pack(tmp_path / "some", some, "test")},
        {"model": model(tmp_path / "m")},
    )
    VocSegmentation(model="model", epochs=0, **QUICK).run(work)
    assert work.notes == ["left out of the mean, because the test split lacks them: blue"]
    assert "IoU blue" not in Scores(work.folder).figures


def test_upsampled_scores_have_the_size_of_the_image(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    network = VocSegmentation(model="model", layer="conv3")._network(
        work, model(tmp_path / "m"), SIZE, 4
    )
    assert pixel_scores(network, torch.rand(2, 3, SIZE, SIZE)).shape == (2, 4, SIZE, SIZE)
    assert not pixel_scores(
        network, torch.rand(2, 3, SIZE, SIZE)
    ).any()  # the head begins with zeros
