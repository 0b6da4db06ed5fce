"""Damaged files of PASCAL VOC are refused, by split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.datasets.miniature import count_refused, opened, text
from tests.datasets.readers.voc_files import BOXES, annotation, voc
from transfer.datasets.readers.pascal_voc import parse_boxes
from transfer.errors import UsageError


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
