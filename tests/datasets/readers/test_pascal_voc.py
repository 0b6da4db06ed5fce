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

from tests.datasets.conftest import encode
from tests.datasets.miniature import Opened, count_refused, jpegs, opened, pixels, settle, text
from tests.datasets.readers.test_archive_tree import write_tar
from transfer.datasets.readers.annotations import Annotations
from transfer.datasets.readers.pascal_voc import parse_boxes
from transfer.errors import UsageError

NAMES = {"train": ["000005", "2008_000007"], "val": ["000009", "000012"]}
Box = tuple[str, float, float, float, float, int | None]
BOXES: dict[str, list[Box]] = {
    "000005": [
        ("chair", 263, 211, 324, 339, 0),
        ("chair", 5, 244, 67, 374, 1),
        ("cat", 1, 1, 500, 375, 0),
    ],
    "2008_000007": [("boat", 45.70000076293945, 12.5, 46, 13, None)],
    "000009": [("train", 10, 20, 30, 40, 1)],
    "000012": [],
}


def annotation(name: str, boxes: list[Box]) -> str:
    """Return an annotation as VOC's tool wrote it, with fields that readers do not need."""
    things = ""
    for kind, left, top, right, bottom, difficult in boxes:
        hard = "" if difficult is None else f"<difficult>{difficult}</difficult>"
        box = "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
        part = f"<part><name>head</name><bndbox>{box}</bndbox></part>"
        things += f"""
	<object>
		<name>{kind}</name>
		<pose>Rear</pose>
		<truncated>0</truncated>{hard}
		<bndbox>
			<xmin>{left}</xmin>
			<ymin>{top}</ymin>
			<xmax>{right}</xmax>
			<ymax>{bottom}</ymax>
		</bndbox>{part if kind == "cat" else ""}
	</object>"""
    return f"""<annotation>
	<folder>VOC2007</folder>
	<filename>{name}.jpg</filename>
	<owner><flickrid>?</flickrid><name>?</name></owner>
	<size><width>500</width><height>375</height><depth>3</depth></size>
	<segmented>0</segmented>{things}
</annotation>
"""


def mask() -> Image.Image:
    """Return class indices with a palette: a chair (9) with a border."""
    image = Image.new("P", (24, 20))
    image.putpalette([value for number in range(256) for value in (number, number // 2, 0)])
    image.paste(255, (4, 4, 12, 12))
    image.paste(9, (5, 5, 11, 11))
    return image


def presence(class_name: str, boxes: list[Box]) -> int:
    """Return -1 without the class, else 1, or 0 where the first object of it is difficult."""
    for kind, *_, difficult in boxes:
        if kind == class_name:
            return 1 - (difficult or 0)
    return -1


def voc(root: Path, lists: bool = True, classes: list[str] | None = None) -> dict[str, bytes]:
    every = [name for names in NAMES.values() for name in names]
    written = jpegs(root, *(f"JPEGImages/{name}.jpg" for name in every))
    for name in every:
        text(root / f"Annotations/{name}.xml", annotation(name, BOXES[name]))
    (root / "SegmentationClass").mkdir()
    (root / "SegmentationClass/000005.png").write_bytes(encode(mask()))
    text(root / "ImageSets/Segmentation/train.txt", "000005")
    for split, names in {**NAMES, "trainval": every}.items():
        text(root / f"ImageSets/Main/{split}.txt", *names)
        for class_name in classes or ["chair", "cat", "train"] if lists else []:
            shows = {name: presence(class_name, BOXES[name]) for name in names}
            text(
                root / f"ImageSets/Main/{class_name}_{split}.txt",
                *(f"{name} {shows[name]:2}" for name in names),
            )
    return written


def annotations_of(dataset: Opened, split: str) -> Annotations:
    listing = dataset.listing(split)
    assert listing.labels is None
    assert listing.annotations is not None
    return listing.annotations


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


# Faults


def image_gone(root: Path) -> None:
    (root / "JPEGImages/000005.jpg").unlink()


def annotation_gone(root: Path) -> None:
    (root / "Annotations/2008_000007.xml").unlink()


def mask_gone(root: Path) -> None:
    (root / "SegmentationClass/000005.png").unlink()


def cut(root: Path) -> None:
    path = root / "Annotations/000005.xml"
    path.write_bytes(path.read_bytes()[:300])


def entities(root: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]>'
    bomb += "<annotation><object>&y;</object></annotation>"
    text(root / "Annotations/000005.xml", bomb)


def another_class(root: Path) -> None:
    text(root / "Annotations/000005.xml", annotation("000005", [("unicorn", 1, 1, 2, 2, 0)]))


def no_box(root: Path) -> None:
    text(
        root / "Annotations/000005.xml",
        annotation("000005", [("cat", 1, 1, 2, 2, 0)]).replace("<xmin>1</xmin>", ""),
    )


def reversed_box(root: Path) -> None:
    text(root / "Annotations/000005.xml", annotation("000005", [("cat", 30, 1, 20, 2, 0)]))


def endless_box(root: Path) -> None:
    text(
        root / "Annotations/000005.xml", annotation("000005", [("cat", float("nan"), 1, 20, 2, 0)])
    )


def other_xml(root: Path) -> None:
    text(root / "Annotations/000005.xml", "<html></html>")


def twice(root: Path) -> None:
    text(root / "ImageSets/Main/train.txt", "000005", "000005")


def leads_out(root: Path) -> None:
    text(root / "ImageSets/Main/train.txt", "../../000005")


def nothing(root: Path) -> None:
    text(root / "ImageSets/Main/train.txt", "")


def label_of_two(root: Path) -> None:
    text(root / "ImageSets/Main/cat_train.txt", "000005 2", "2008_000007 -1")


def label_missing(root: Path) -> None:
    text(root / "ImageSets/Main/cat_train.txt", "000005 1")


def label_of_another_split(root: Path) -> None:
    text(root / "ImageSets/Main/cat_train.txt", "000005 1", "2008_000007 -1", "000012 1")


def no_label(root: Path) -> None:
    text(root / "ImageSets/Main/cat_train.txt", "000005", "2008_000007")


FAULTS: dict[Callable[[Path], None], str] = {
    image_gone: "lacks 1 file of ImageSets/Main/train.txt:\n  JPEGImages/000005.jpg",
    annotation_gone: "lacks 1 file of ImageSets/Main/train.txt:\n  Annotations/2008_000007.xml",
    mask_gone: "lacks 1 file of ImageSets/Segmentation/train.txt:\n  SegmentationClass/000005.png",
    cut: "1 annotation cannot be used:\n  Annotations/000005.xml: not readable XML",
    entities: "Annotations/000005.xml: it defines entities",
    another_class: "Annotations/000005.xml: an object of class 'unicorn', which is none of the 20",
    no_box: "Annotations/000005.xml: an object 'cat' without a readable box",
    reversed_box: r"000005.xml: an object 'cat' with the invalid box \[30.0, 1.0, 20.0, 2.0\]",
    endless_box: "Annotations/000005.xml: an object 'cat' with the invalid box",
    other_xml: "Annotations/000005.xml: not an annotation, but <html>",
    twice: "ImageSets/Main/train.txt, line 2: invalid name '000005': it occurs twice",
    leads_out: "ImageSets/Main/train.txt, line 1: .* its path leads out of the set",
    nothing: "ImageSets/Main/train.txt names no images",
    label_of_two: "cat_train.txt, line 1: '000005 2' is not 1, 0 or -1",
    label_missing: "cat_train.txt lacks 1 image",
    label_of_another_split: "cat_train.txt, line 3: '000012 1' is twice in it or in another split",
    no_label: "cat_train.txt, line 1: '000005' does not match",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_damaged_set_is_told_with_its_file_and_other_splits_can_be_used(
    tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    voc(tmp_path / "voc")
    fault(tmp_path / "voc")
    dataset = opened("voc2007", tmp_path / "voc")
    assert dataset.survey.splits["val"].count == 2
    with pytest.raises(UsageError, match=FAULTS[fault]):
        _ = dataset.survey.splits["train_seg" if fault is mask_gone else "train"]


def test_a_split_that_is_not_there_is_told(tmp_path: Path) -> None:
    voc(tmp_path / "voc")
    dataset = opened("voc2007", tmp_path / "voc")
    with pytest.raises(
        UsageError, match=r"lacks its split 'test': .* has no ImageSets/Main/test.txt"
    ) as error:
        dataset.survey.resolve_split("test", explicit=True)
    assert "VOCDetection" in str(error.value)
    (tmp_path / "other").mkdir()
    with pytest.raises(
        UsageError, match=r"image set 'voc2007' is missing: .* has no ImageSets/Main/train.txt"
    ):
        opened("voc2007", tmp_path / "other")


def test_any_damage_to_an_annotation_gives_a_message_or_boxes() -> None:
    whole = annotation("000005", BOXES["000005"]).encode()

    def read(damaged: bytes) -> None:
        assert parse_boxes(damaged, ["chair", "cat"]).corners.shape[1] == 4

    assert count_refused(whole, ValueError, read) > 500


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
