"""Boxes and masks follow the pixels into the packed square; images draw by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.evaluate._voc_data import Square, check_learnable, classes_counted, ids_from_names
from tests.stages.handmade import make_work
from tests.stages.voc_handmade import pack, scenes
from transfer.datasets.packed.decode import square
from transfer.datasets.readers.annotations import Boxes
from transfer.errors import TransferError
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 40


def filled(width: int, height: int, corners: tuple[int, int, int, int]) -> tuple[np.ndarray, Boxes]:
    left, top, right, bottom = corners
    mask = np.zeros((height, width), np.uint8)
    mask[top : bottom + 1, left : right + 1] = 255
    return mask, Boxes(np.array([corners], np.float32), np.array([7]), np.array([False]))


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize(("width", "height"), [(120, 80), (80, 120), (97, 61), (40, 40), (33, 90)])
def test_boxes_and_masks_lie_where_the_packed_pixels_do(width: int, height: int, fit: str) -> None:
    random = np.random.RandomState(0)
    for _ in range(20):
        left, top = random.randint(0, width - 12), random.randint(0, height - 12)
        corners = left, top, random.randint(left + 10, width), random.randint(top + 10, height)
        mask, boxes = filled(width, height, corners)
        seen = (
            square(np.repeat(mask[:, :, None], 3, axis=2), SIZE, fit)[:, :, 0].astype(float) / 255
        )
        place = Square(width, height, SIZE, fit)
        # Bicubic resampling softens edges, by about a pixel of the original or of the square.
        assert np.abs(place.mask(mask) / 255 - seen).mean() < 0.06
        found, labels, hard = place.boxes(boxes)
        if not len(found):
            assert seen.mean() < 0.02
            continue
        assert labels.tolist() == [7]
        assert found.dtype == np.float32
        for axis, (low, high) in enumerate(found[0].reshape(2, 2).T):
            shown = np.flatnonzero(seen.max(axis=axis) > 0.5)
            assert abs(low - shown.min()) < 1.2
            assert abs(high - shown.max() - 1) < 1.2
        whole = (corners[2] - corners[0] + 1) * (corners[3] - corners[1] + 1)
        shrunk = SIZE**2 / (min(width, height) ** 2 if fit == "crop" else width * height)
        share = np.prod(found[0, 2:] - found[0, :2]) / (whole * shrunk)
        if abs(share - 0.3) > 0.02:
            assert hard.tolist() == [share < 0.3]


def test_boxes_outside_are_dropped_and_those_cut_short_are_difficult() -> None:
    corners = [[0, 0, 9, 19], [10, 0, 29, 19], [26, 0, 33, 9], [28, 0, 37, 9], [12, 5, 15, 8]]
    boxes = Boxes(np.array(corners, np.float32), np.arange(5), np.array([False] * 4 + [True]))
    found, labels, hard = Square(40, 20, 20, "crop").boxes(
        boxes
    )  # columns 10 to 29 are kept, at their size
    assert found.tolist() == [[0, 0, 20, 20], [16, 0, 20, 10], [18, 0, 20, 10], [2, 5, 6, 9]]
    assert labels.tolist() == [1, 2, 3, 4]
    assert hard.tolist() == [False, False, True, True]
    none = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
    assert [len(part) for part in Square(40, 20, 20, "crop").boxes(none)] == [0, 0, 0]


def test_an_image_draws_by_its_name(tmp_path: Path) -> None:
    shown = scenes("test", 6)
    images, turned = pack(tmp_path / "a", shown, "test"), pack(tmp_path / "b", shown[::-1], "test")
    draws = [
        PerImageRng(3, ids_from_names(one.ids, torch.device("cpu"))).uniform(4)
        for one in (images, turned)
    ]
    assert torch.equal(draws[0], draws[1].flip(0))
    assert len({*draws[0][:, 0].tolist()}) == 6


def test_classes_that_the_test_split_lacks_are_told_and_left_out(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    yes, no = np.array([True, True, False]), np.array([True, False, True])
    assert classes_counted(work, ["cat", "cow", "dog"], yes, no).tolist() == [0, 2]
    left_out, unseen = work.notes
    assert left_out == "left out of the mean, because the test split lacks them: cow"
    assert unseen == "only the test split shows: dog"
    with pytest.raises(TransferError, match="the test split shows none of the classes"):
        classes_counted(work, ["cat", "cow", "dog"], yes, np.zeros(3, bool))


@pytest.mark.parametrize("target", [1, -1, 0])
def test_targets_that_tell_no_image_from_another_are_refused(target: int) -> None:
    alike = np.full((5, 3), -1)
    alike[:, 1] = target
    with pytest.raises(
        TransferError,
        match=f"the training images show {int(target == 1)} of 3 classes, and no class",
    ):
        check_learnable(alike)
    alike[0, 1], alike[1, 1] = 1, -1
    check_learnable(alike)
