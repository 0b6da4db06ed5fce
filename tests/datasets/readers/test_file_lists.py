"""Images found by folders and by lists: Places, Pets, Imagenette and SlimageNet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.miniature import jpegs, opened, text
from tests.datasets.readers.listed_sets import (
    CRANE,
    SPRINGER,
    TENCH,
    labeled,
    same_bytes,
)
from transfer.errors import UsageError


@pytest.mark.parametrize("folder", ["data_256_standard", "data_256", "data_large"])
def test_places_are_read_by_their_lists(tmp_path: Path, folder: str) -> None:
    place = tmp_path / "places365"
    text(
        place / "categories_places365.txt",
        "/a/airfield 0",
        "/a/apartment_building/outdoor 2",
        "/a/alcove 1",
    )
    names = [
        "a/airfield/00000001.jpg",
        "a/alcove/00000003.jpg",
        "a/apartment_building/outdoor/00000001.jpg",
    ]
    written = jpegs(
        place, *(f"{folder}/{name}" for name in names), "val_256/Places365_val_00000001.jpg"
    )
    written |= jpegs(
        place, "test_256/Places365_test_00000001.jpg", f"{folder}/a/alcove/not_listed.jpg"
    )
    lines = [f"/{name} {label}" for name, label in zip(names, [0, 1, 2], strict=True)]
    text(place / "places365_train_standard.txt", *reversed(lines))
    text(place / "places365_val.txt", "Places365_val_00000001.jpg 2")
    text(place / "places365_test.txt", "Places365_test_00000001.jpg")
    dataset = opened("places365", place)
    assert dataset.survey.classes == ["airfield", "alcove", "apartment_building/outdoor"]
    assert dataset.listing("train").ids == [f"{folder}/{name}" for name in reversed(names)]
    assert dataset.listing("train").labels == [2, 1, 0]
    assert labeled(dataset, "val") == {
        "val_256/Places365_val_00000001.jpg": "apartment_building/outdoor"
    }
    assert dataset.listing("test").labels is None
    for split in ("train", "val", "test"):
        same_bytes(dataset, split, written)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["/a/airfield 0", "/a/alcove 2"], "does not number its classes from 0 without gaps"),
        (["/a/airfield 0", "/a/airfield 1"], "has the class 'airfield' twice"),
        (["/a/airfield zero"], "'zero' is not a whole number"),
        (["/a/airfield 0", "/a/alcove 1"], "label 5 is none of the 2 classes"),
    ],
)
def test_faulty_classes_and_labels_out_of_range_are_told(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    place = tmp_path / "places365"
    text(place / "categories_places365.txt", *lines)
    jpegs(place, "val_256/Places365_val_00000001.jpg")
    text(place / "places365_val.txt", "Places365_val_00000001.jpg 5")
    with pytest.raises(UsageError, match=message):
        _ = opened("places365", place).survey.splits["val"]


def test_oxford_pets_are_read_by_their_lists(tmp_path: Path) -> None:
    root = tmp_path / "oxford_pets" / "oxford-iiit-pet"
    names = ["Abyssinian_100", "yorkshire_terrier_9", "american_bulldog_12"]
    written = jpegs(root, *(f"images/{name}.jpg" for name in [*names, "Bengal_5"]))
    text(
        root / "annotations/trainval.txt",
        f"{names[0]} 1 1 1",
        f"{names[1]} 37 2 25",
        f"{names[2]} 2 2 1",
    )
    text(root / "annotations/test.txt", "Bengal_5 6 1 2")
    dataset = opened("oxford_pets", tmp_path / "oxford_pets")
    assert labeled(dataset, "trainval") == {
        f"images/{name}.jpg": name.rpartition("_")[0] for name in names
    }  # the names of the files are the names of their classes
    assert labeled(dataset, "test") == {"images/Bengal_5.jpg": "Bengal"}
    same_bytes(dataset, "trainval", written)
    assert dataset.survey.resolve_split("trainval", explicit=True) == "trainval"
    text(root / "annotations/test.txt", "Bengal_5 38 1 2")
    with pytest.raises(
        UsageError,
        match=r"test.txt, line 1: images/Bengal_5.jpg: label 37 is none of the 37 classes",
    ):
        _ = opened("oxford_pets", tmp_path / "oxford_pets").survey.splits["test"]


def test_imagenette_has_the_names_of_its_ten_classes(tmp_path: Path) -> None:
    from transfer.datasets.cards import load_card

    card, _ = load_card("imagenette")
    assert card.files is not None
    codes = card.files.codes
    assert isinstance(codes, list)
    root = tmp_path / "imagenette" / "imagenette2-160"
    jpegs(root, *(f"{split}/{code}/{code}_1.JPEG" for split in ("train", "val") for code in codes))
    text(root / "noisy_imagenette.csv", "path,noisy_labels_0")
    dataset = opened("imagenette", tmp_path / "imagenette")
    assert dataset.survey.classes[:2] == ["tench", "English springer"]
    assert labeled(dataset, "val")[f"val/{codes[8]}/{codes[8]}_1.JPEG"] == "golf ball"
    assert opened("imagenette", root).prints() == dataset.prints()


def test_slimagenet_has_the_classes_of_all_its_splits(tmp_path: Path) -> None:
    jpegs(
        tmp_path / "slim/SlimageNet64",
        f"train/{TENCH}/a.png",
        f"train/{CRANE}/a.png",
        f"test/{SPRINGER}/a.png",
    )
    dataset = opened("slimagenet64", tmp_path / "slim")
    assert dataset.survey.classes == [TENCH, CRANE, SPRINGER]
    assert labeled(dataset, "test") == {f"test/{SPRINGER}/a.png": SPRINGER}
    assert "val" in dataset.survey.absent
