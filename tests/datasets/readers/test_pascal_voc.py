"""PASCAL VOC: lists, boxes and masks in their real format, and with real photographs."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.datasets.miniature import opened, pixels, settle, text
from tests.datasets.readers.archive_files import write_tar
from tests.datasets.readers.voc_files import NAMES, annotations_of, mask, voc
from transfer.errors import UsageError


@pytest.mark.parametrize("year", ["2007", "2012"])
@pytest.mark.parametrize("lists", [True, False])
def test_images_classes_and_boxes_are_read(tmp_path: Path, year: str, lists: bool) -> None:
    written = voc(tmp_path / "voc" / "VOCdevkit" / f"VOC{year}", lists)
    dataset = opened(f"voc{year}", tmp_path / "voc")
    assert list(dataset.survey.splits) == ["train", "val", "trainval", "train_seg"]
    truth = annotations_of(dataset, "trainval")
    cat, chair, boat, train = (
        truth.classes.index(name) for name in ("cat", "chair", "boat", "train")
    )
    assert (truth.targets.dtype, truth.targets.shape) == (np.int8, (4, 20))
    assert {
        name: np.flatnonzero(row >= 0).tolist()
        for name, row in zip("abcd", truth.targets, strict=True)
    } == {
        "a": sorted([cat, chair]),
        "b": [boat],
        "c": [train],
        "d": [],
    }
    assert truth.targets[0, chair] == truth.targets[0, cat] == truth.targets[1, boat] == 1
    assert truth.targets[2, train] == 0
    boxes = truth.boxes(0)
    assert boxes.corners.dtype == np.float32
    assert boxes.corners.tolist() == [[262, 210, 323, 338], [4, 243, 66, 373], [0, 0, 499, 374]]
    assert boxes.labels.tolist() == [chair, chair, cat]
    assert boxes.difficult.tolist() == [False, True, False]
    assert np.allclose(truth.boxes(1).corners, [[44.7, 11.5, 45, 12]])
    assert truth.boxes(3).corners.shape == (0, 4)
    listing = dataset.listing("trainval")
    assert listing.ids == [*NAMES["train"], *NAMES["val"]]
    assert [listing.read(row) for row in range(4)] == [
        written[f"JPEGImages/{name}.jpg"] for name in listing.ids
    ]


def test_the_lists_of_classes_count_where_they_differ_from_the_boxes(tmp_path: Path) -> None:
    voc(tmp_path / "voc")
    text(tmp_path / "voc/ImageSets/Main/cat_train.txt", "000005  0", "2008_000007  1")
    truth = annotations_of(opened("voc2007", tmp_path / "voc"), "train")
    assert truth.targets[:, truth.classes.index("cat")].tolist() == [0, 1]


def test_masks_are_read_as_indices_of_classes(tmp_path: Path) -> None:
    import io

    voc(tmp_path / "voc")
    dataset = opened("voc2007", tmp_path / "voc")
    truth = annotations_of(dataset, "train_seg")
    data = truth.mask(0)
    assert data is not None
    read = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(read, np.asarray(mask()))
    assert truth.classes[9 - 1] == "chair"
    assert annotations_of(dataset, "train").mask(1) is None


def _read_all(listing: Any) -> None:
    truth = listing.annotations
    for row in range(len(listing.ids)):
        assert len(truth.boxes(row).labels) == len(truth.boxes(row).corners)
        assert pixels(listing, row).ndim == 3
    os._exit(0)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"GIF89a"]
)
def test_a_damaged_mask_is_named(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    voc(tmp_path / "voc")
    file = tmp_path / "voc/SegmentationClass/000005.png"
    file.write_bytes(damage(file.read_bytes()))
    truth = annotations_of(opened("voc2007", tmp_path / "voc"), "train_seg")
    with pytest.raises(UsageError, match=r"000005.png: not a readable mask"):
        truth.mask(0)


def test_annotations_are_read_in_a_forked_process_too(tmp_path: Path) -> None:
    voc(tmp_path / "voc")
    listing = opened("voc2007", tmp_path / "voc").listing("trainval")
    child = multiprocessing.get_context("fork").Process(target=_read_all, args=(listing,))
    child.start()
    child.join(30)
    assert child.exitcode == 0


@pytest.mark.parametrize(
    "file", ["JPEGImages/000005.jpg", "Annotations/000005.xml", "ImageSets/Main/cat_train.txt"]
)
def test_a_change_of_any_file_changes_the_fingerprint(tmp_path: Path, file: str) -> None:
    voc(tmp_path / "voc")
    settle()
    before = opened("voc2007", tmp_path / "voc").prints()
    assert opened("voc2007", tmp_path / "voc").prints() == before
    path = tmp_path / "voc" / file
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"263", b"264").replace(b" -1", b"  1") if file[-3:] != "jpg" else data + b"x"
    )
    dataset = opened("voc2007", tmp_path / "voc")
    after = dataset.prints()
    assert after["val"] == before["val"]
    assert after["train"] != before["train"]
    assert dataset.survey.changes == [f"{file} has changed"]


def test_what_was_checked_once_is_not_parsed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transfer.datasets.readers import pascal_voc as voc_module

    voc(tmp_path / "voc")
    settle()
    before = opened("voc2007", tmp_path / "voc").prints()
    monkeypatch.setattr(voc_module, "parse_boxes", lambda *_: pytest.fail("parsed again"))
    assert opened("voc2007", tmp_path / "voc").prints() == before


def test_the_set_may_stay_in_its_tar(tmp_path: Path) -> None:
    voc(tmp_path / "VOCdevkit" / "VOC2007")
    before = opened("voc2007", tmp_path).prints()
    files = sorted(path for path in (tmp_path / "VOCdevkit").rglob("*") if path.is_file())
    path = write_tar(
        tmp_path / "voc.tar", {f.relative_to(tmp_path).as_posix(): f.read_bytes() for f in files}
    )
    shutil.rmtree(tmp_path / "VOCdevkit")
    assert opened("voc2007", path).prints() == before


@pytest.mark.photos
@pytest.mark.skipif(
    not os.environ.get("TRANSFER_PHOTOS"), reason="TRANSFER_PHOTOS names no folder of photographs"
)
def test_real_photographs_in_the_layout_of_voc(tmp_path: Path) -> None:
    dataset = opened(
        "voc2007",
        Path(os.environ["TRANSFER_PHOTOS"]) / "coco_voc20.tar",
        tmp_path / "memory",
    )
    assert dataset.survey.splits["trainval"].count == 160
    assert dataset.survey.splits["test"].count == 64
    truth = annotations_of(dataset, "trainval")
    showing = dict(zip(truth.classes, (truth.targets == 1).sum(axis=0).tolist(), strict=True))
    assert (showing["person"], showing["cow"]) == (96, 1)
    listing = dataset.listing("trainval")
    for row in range(0, 160, 20):
        height, width, _ = pixels(listing, row).shape
        boxes = truth.boxes(row)
        assert len(boxes.labels)
        assert boxes.corners.min() >= -1
        assert boxes.corners[:, 2].max() <= width
        assert boxes.corners[:, 3].max() <= height
        assert {*boxes.labels[~boxes.difficult].tolist()} == {
            *np.flatnonzero(truth.targets[row] == 1).tolist()
        }
    import io

    data = annotations_of(dataset, "trainval_seg").mask(0)
    assert data is not None
    assert {*np.unique(np.asarray(Image.open(io.BytesIO(data)))).tolist()} <= {*range(21), 255}
