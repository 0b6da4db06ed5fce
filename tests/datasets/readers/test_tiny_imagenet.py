"""Tiny-ImageNet: class folders, a list of annotations, and names of classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.datasets.miniature import jpegs, opened, text
from tests.datasets.readers.listed_sets import (
    labeled,
    same_bytes,
    zipped,
)
from transfer.errors import UsageError


def tiny(place: Path) -> dict[str, bytes]:
    root = place / "tiny-imagenet-200"
    wnids = ["n02124075", "n01443537"]  # not sorted, as in the published set
    text(root / "wnids.txt", *wnids)
    text(
        root / "words.txt",
        "n00001740\tentity",
        "n02124075\tEgyptian cat",
        "n01443537\tgoldfish, Carassius auratus",
    )
    written = jpegs(
        root,
        *(f"train/{code}/images/{code}_{number}.JPEG" for code in wnids for number in (0, 1)),
        *(f"val/images/val_{number}.JPEG" for number in range(3)),
        "test/images/test_0.JPEG",
    )
    for code in wnids:
        text(root / f"train/{code}/{code}_boxes.txt", f"{code}_0.JPEG\t0\t10\t63\t58")
    classes = [wnids[1], wnids[0], wnids[1]]
    text(
        root / "val/val_annotations.txt",
        *(f"val_{number}.JPEG\t{code}\t0\t32\t44\t62" for number, code in enumerate(classes)),
    )
    return written


@pytest.mark.parametrize("form", ["folder", "zip", "zip named itself"])
def test_tiny_imagenet_is_read_unpacked_or_as_it_is_downloaded(tmp_path: Path, form: str) -> None:
    place = tmp_path / "tiny_imagenet"
    written = tiny(place)
    if form != "folder":
        zipped(place / "tiny-imagenet-200", tmp_path / "tiny_imagenet.zip")
        shutil.rmtree(place)
        place = tmp_path / "tiny_imagenet.zip"
    dataset = opened("tiny_imagenet", place)
    assert dataset.survey.classes == ["Egyptian cat", "goldfish"]
    assert dataset.survey.size == 64
    assert dataset.listing("train").labels == [
        1,
        1,
        0,
        0,
    ]  # labels in the order of wnids.txt, images in that of their names
    shown = {
        f"val/images/val_{number}.JPEG": name
        for number, name in enumerate(["goldfish", "Egyptian cat", "goldfish"])
    }
    assert labeled(dataset, "val") == shown
    assert dataset.listing("test").labels is None
    for split in ("train", "val", "test"):
        same_bytes(dataset, split, written)


def test_a_zip_has_the_fingerprint_of_what_is_in_it(tmp_path: Path) -> None:
    tiny(tmp_path / "tiny_imagenet")
    before = opened("tiny_imagenet", tmp_path / "tiny_imagenet").prints()
    zipped(tmp_path / "tiny_imagenet" / "tiny-imagenet-200", tmp_path / "tiny_imagenet.zip")
    assert opened("tiny_imagenet", tmp_path / "tiny_imagenet.zip").prints() == before


def test_tiny_imagenets_validation_images_may_be_sorted_into_folders(tmp_path: Path) -> None:
    root = tmp_path / "tiny_imagenet" / "tiny-imagenet-200"
    tiny(tmp_path / "tiny_imagenet")
    for number, code in enumerate(["n01443537", "n02124075", "n01443537"]):
        target = root / "val" / code / "images" / f"val_{number}.JPEG"
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / "val" / "images" / target.name).rename(target)
    (root / "val" / "images").rmdir()
    dataset = opened("tiny_imagenet", tmp_path / "tiny_imagenet")
    assert dataset.listing("val").labels == [1, 1, 0]


def test_without_its_words_classes_go_by_their_codes(tmp_path: Path) -> None:
    tiny(tmp_path / "tiny_imagenet")
    (tmp_path / "tiny_imagenet" / "tiny-imagenet-200" / "words.txt").unlink()
    assert opened("tiny_imagenet", tmp_path / "tiny_imagenet").survey.classes == [
        "n02124075",
        "n01443537",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "val_9.JPEG\tn01443537\t0\t0\t1\t1",
            r"lacks 1 listed image:\n  .*line 4: val/images/val_9.JPEG",
        ),
        (
            "val_0.JPEG\tn01443537\t0\t0\t1\t1",
            "line 4: 'val/images/val_0.JPEG' is already in line 1",
        ),
        ("val_2b.JPEG\tn99999999\t0\t0\t1\t1", "class 'n99999999' is none of the 2 classes"),
        ("val_2b.JPEG n01443537", "line 4: 'val_2b.JPEG n01443537' does not match"),
        (
            "../../train/x.JPEG\tn01443537\t0\t0\t1\t1",
            "line 4: invalid name .*: its path leads out of the set",
        ),
        ("\x00\tn01443537\t0\t0\t1\t1", "it has no name"),
    ],
)
def test_a_faulty_line_of_a_list_is_told(tmp_path: Path, line: str, message: str) -> None:
    tiny(tmp_path / "tiny_imagenet")
    with open(tmp_path / "tiny_imagenet/tiny-imagenet-200/val/val_annotations.txt", "a") as file:
        file.write(f"{line}\n")
    dataset = opened("tiny_imagenet", tmp_path / "tiny_imagenet")
    with pytest.raises(UsageError, match=message):
        _ = dataset.survey.splits["val"]
    assert dataset.survey.splits["train"].count == 4
