"""Images found by folders and by lists, in the real layouts of published datasets."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from tests.datasets.conftest import encode, picture
from tests.datasets.miniature import Opened, jpegs, opened, pixels, settle, text
from transfer.datasets.cards import Card
from transfer.datasets.packed.decode import decode
from transfer.datasets.readers import file_digests as digests_module
from transfer.errors import UsageError

TENCH, SPRINGER, CRANE, CRANE_TOO = "n01440764", "n02102040", "n02012849", "n03126707"


def labeled(dataset: Opened, split: str) -> dict[str, str]:
    """Return the name of each image's class."""
    listing = dataset.listing(split)
    assert listing.labels is not None
    return {
        name: dataset.survey.classes[label]
        for name, label in zip(listing.ids, listing.labels, strict=True)
    }


def same_bytes(dataset: Opened, split: str, written: dict[str, bytes]) -> None:
    listing = dataset.listing(split)
    for row, name in enumerate(listing.ids):
        assert listing.read(row) == written[name]
        assert np.array_equal(pixels(listing, row), decode(written[name]))


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


# ImageNet


def meta_mat(path: Path, *synsets: str) -> None:
    """Write the table of the development kit: classes first, then the synsets above them."""
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss"]
    fields += ["num_children", "children", "wordnet_height", "num_train_images"]
    table = np.zeros((len(synsets) + 2, 1), dtype=[(name, object) for name in fields])
    for row in range(len(table)):
        wnid = synsets[row] if row < len(synsets) else f"n9999999{row}"
        above = row >= len(synsets)
        table[row, 0] = (
            row + 1,
            wnid,
            "a word, another",
            "gloss",
            2 if above else 0,
            [row],
            3 if above else 0,
            1300,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"synsets": table})


def imagenet(place: Path) -> dict[str, bytes]:
    return jpegs(
        place,
        *(f"train/{TENCH}/{TENCH}_{number}.JPEG" for number in (10026, 10043, 7)),
        *(f"train/{SPRINGER}/{SPRINGER}_{number}.JPEG" for number in (1, 99)),
    )


def test_imagenet_is_read_from_folders_of_classes(tmp_path: Path) -> None:
    written = imagenet(tmp_path / "imagenet")
    written |= jpegs(
        tmp_path / "imagenet",
        f"val/{SPRINGER}/ILSVRC2012_val_00000001.JPEG",
        "test/ILSVRC2012_test_1.JPEG",
    )
    dataset = opened("imagenet", tmp_path / "imagenet")
    assert dataset.survey.classes == [TENCH, SPRINGER]
    assert labeled(dataset, "train") == {
        name: name.split("/")[1] for name in written if name.startswith("train")
    }
    assert dataset.listing("train").ids == sorted(dataset.listing("train").ids)
    assert labeled(dataset, "val") == {f"val/{SPRINGER}/ILSVRC2012_val_00000001.JPEG": SPRINGER}
    assert dataset.listing("test").labels is None
    for split in ("train", "val", "test"):
        same_bytes(dataset, split, written)


def test_imagenets_flat_validation_images_are_labeled_by_the_development_kit(
    tmp_path: Path,
) -> None:
    place = tmp_path / "imagenet"
    imagenet(place)
    names = [f"val/ILSVRC2012_val_{number:08}.JPEG" for number in (1, 2, 3)]
    written = jpegs(place, *names)
    meta_mat(place / "ILSVRC2012_devkit_t12/data/meta.mat", SPRINGER, TENCH)
    text(place / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", "2", "1", "2")
    dataset = opened("imagenet", place)
    assert dataset.survey.classes == [TENCH, SPRINGER]
    assert labeled(dataset, "val") == dict(zip(names, [TENCH, SPRINGER, TENCH], strict=True))
    same_bytes(dataset, "val", written)
    shutil.rmtree(place / "train")
    assert labeled(opened("imagenet", place), "val")[names[1]] == SPRINGER


def test_imagenet_in_the_layout_of_kaggle(tmp_path: Path) -> None:
    place = tmp_path / "imagenet"
    train = [
        f"ILSVRC/Data/CLS-LOC/train/{code}/{code}_1.JPEG" for code in (TENCH, CRANE, CRANE_TOO)
    ]
    val = [f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)]
    jpegs(place, *train, *val)
    text(
        place / "LOC_val_solution.csv",
        "ImageId,PredictionString",
        f"ILSVRC2012_val_00000002,{CRANE_TOO} 85 1 499 272 ",
        f"ILSVRC2012_val_00000001,{TENCH} 1 1 2 2 {TENCH} 3 3 9 9",
    )
    text(
        place / "LOC_synset_mapping.txt",
        f"{TENCH} tench, Tinca tinca",
        f"{CRANE} crane",
        f"{CRANE_TOO} crane",
    )
    dataset = opened("imagenet", place)
    assert dataset.survey.classes == ["tench", f"crane ({CRANE})", f"crane ({CRANE_TOO})"]
    assert labeled(dataset, "val") == {val[1]: f"crane ({CRANE_TOO})", val[0]: "tench"}
    assert len(labeled(dataset, "train")) == 3


@pytest.mark.parametrize("folder", ["", "imagenet_subsets/"])
def test_the_published_lists_of_one_and_ten_percent(tmp_path: Path, folder: str) -> None:
    place = tmp_path / "imagenet"
    written = imagenet(place)
    text(place / f"{folder}1percent.txt", f"{SPRINGER}_99.JPEG", f"{TENCH}_10043.JPEG")
    dataset = opened("imagenet", place)
    names = [f"train/{SPRINGER}/{SPRINGER}_99.JPEG", f"train/{TENCH}/{TENCH}_10043.JPEG"]
    assert labeled(dataset, "train_1percent") == dict(zip(names, [SPRINGER, TENCH], strict=True))
    assert {*dataset.listing("train_1percent").ids} < {*dataset.listing("train").ids}
    same_bytes(dataset, "train_1percent", written)
    with pytest.raises(
        UsageError, match=r"lacks its split 'train_10percent': .* has no 10percent.txt"
    ):
        dataset.survey.resolve_split("train_10percent", explicit=True)


def test_imagenet100_takes_its_classes_out_of_imagenet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transfer.datasets.cards import find_place, load_card

    card, file = load_card("imagenet100")
    assert card.files is not None
    codes = card.files.codes
    assert isinstance(codes, list)
    assert len(codes) == 100
    monkeypatch.setenv("TRANSFER_DATA", str(tmp_path))
    jpegs(
        tmp_path / "imagenet",
        *(f"train/{code}/{code}_{n}.JPEG" for code in [*codes, TENCH] for n in (1, 2)),
    )
    jpegs(tmp_path / "imagenet", *(f"val/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)))
    meta_mat(tmp_path / "imagenet/ILSVRC2012_devkit_t12/data/meta.mat", TENCH, codes[7])
    text(
        tmp_path / "imagenet/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
        "1",
        "2",
    )
    assert find_place(card, file) == tmp_path / "imagenet"
    dataset = opened("imagenet100", find_place(card, file), tmp_path / "memory")
    assert dataset.survey.classes == codes
    assert len(dataset.listing("train").ids) == 200
    assert labeled(dataset, "val") == {"val/ILSVRC2012_val_00000002.JPEG": codes[7]}
    shutil.rmtree(tmp_path / "imagenet" / "train" / codes[3])
    with pytest.raises(UsageError, match=f"lacks 1 of its classes:\n  {codes[3]}"):
        _ = opened("imagenet100", tmp_path / "imagenet").survey.splits["train"]


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (
            ["1", "2", "3"],
            r"line 3: val/ILSVRC2012_val_00000003.JPEG: class 'synset 3' is none of the 2 classes",
        ),
        (["1", "x"], "line 2: 'x' is not a whole number"),
        (["1", "0"], "class 'synset 0'"),
        (
            ["1", "2", "1", "2"],
            "lacks 1 listed image:\n  .*line 4: val/ILSVRC2012_val_00000004.JPEG",
        ),
        ([], "holds no images of the split 'val'"),
    ],
)
def test_a_faulty_ground_truth_is_told_with_its_line(
    tmp_path: Path, truth: list[str], message: str
) -> None:
    place = tmp_path / "imagenet"
    imagenet(place)
    jpegs(place, *(f"val/ILSVRC2012_val_{number:08}.JPEG" for number in (1, 2, 3)))
    meta_mat(place / "ILSVRC2012_devkit_t12/data/meta.mat", SPRINGER, TENCH)
    text(place / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", *truth)
    with pytest.raises(UsageError, match=message):
        _ = opened("imagenet", place).survey.splits["val"]


@pytest.mark.parametrize(
    "data", [b"", b"MATLAB 5.0 MAT-file" + bytes(200), b"no matlab file at all" * 20]
)
def test_a_damaged_meta_mat_is_told(tmp_path: Path, data: bytes) -> None:
    place = tmp_path / "imagenet"
    imagenet(place)
    jpegs(place, "val/ILSVRC2012_val_00000001.JPEG")
    meta = place / "ILSVRC2012_devkit_t12/data/meta.mat"
    text(meta.parent / "ILSVRC2012_validation_ground_truth.txt", "1")
    meta.write_bytes(data)
    with pytest.raises(UsageError, match=r"meta.mat: not ImageNet's meta.mat "):
        _ = opened("imagenet", place).survey.splits["val"]


# Tiny-ImageNet


def tiny(place: Path) -> dict[str, bytes]:
    root = place / "tiny-imagenet-200"
    wnids = ["n02124075", "n01443537"]  # not sorted, and neither are those of the set
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
    ]  # by the order of wnids.txt; the images by that of their names
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


# Places, Pets, Imagenette, SlimageNet


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
    }  # each file's own name says what it shows
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


# A user's card


def own(**files: Any) -> Card:
    return Card.model_validate(
        {"name": "mine", "title": "mine", "reader": "files", "layout": "mine", "files": files}
    )


def test_names_with_spaces_and_other_scripts_are_read(tmp_path: Path) -> None:
    names = ["märz 2020/ein bild.png", "写真/猫, schwarz.png", "عربي/صورة.png"]
    jpegs(tmp_path / "set", *names)
    classes = ["eine Klasse", "猫", "قط"]
    text(
        tmp_path / "set" / "liste.tsv",
        "bild\tklasse",
        *(f"./{a}\t{b}" for a, b in zip(names, classes, strict=True)),
    )
    card = own(splits={"train": {"list": "liste.tsv", "line": "{image}\t{class}", "header": True}})
    dataset = Opened(card, tmp_path / "set", tmp_path / "memory")
    assert labeled(dataset, "train") == dict(zip(names, classes, strict=True))
    with_bom = (tmp_path / "set" / "liste.tsv").read_text(encoding="utf-8").replace("\n", "\r\n")
    (tmp_path / "set" / "liste.tsv").write_bytes(b"\xef\xbb\xbf" + with_bom.encode())
    assert Opened(card, tmp_path / "set", tmp_path / "memory").prints() == dataset.prints()


def test_links_that_loop_end_and_lead_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    jpegs(folder, "train/a/1.png", "train/b/1.png", "val/a/1.png")
    (folder / "train" / "a" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "train" / "a" / "self").symlink_to(folder / "train" / "a", target_is_directory=True)
    (folder / "train" / "a" / "loop.png").symlink_to(folder / "train" / "a" / "loop.png")
    card = own(splits={"train": {"folders": "train"}, "val": {"folders": "val"}})
    with pytest.raises(
        UsageError, match=r"1 file cannot be read:\n  train/a/loop.png: Too many levels"
    ):
        _ = Opened(card, folder, tmp_path / "memory").survey.splits["train"]
    (folder / "train" / "a" / "loop.png").unlink()
    dataset = Opened(card, folder, tmp_path / "memory")
    assert dataset.listing("train").ids == ["train/a/1.png", "train/b/1.png"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"list": "l.txt", "image": "{name}"}, "needs 'name', which `line` does not have"),
        ({"list": "l.txt", "line": "{image} {image}"}, "invalid template"),
        ({"list": "missing.txt"}, "image set 'mine' is missing: .* has no missing.txt"),
        ({"list": "l.txt", "image": "nowhere/{image}"}, "has no nowhere/"),
        ({"folders": "nothing"}, "has no nothing/ with a folder for each class"),
        ({"pictures": "nothing"}, "has no nothing/"),
        ({"pictures": "empty"}, "holds no images of the split 'train'"),
        ({"list": "bytes.txt"}, "is not a text file in UTF-8"),
    ],
)
def test_a_card_that_does_not_fit_its_files_is_told(
    tmp_path: Path, part: dict[str, Any], message: str
) -> None:
    jpegs(tmp_path / "set", "1.png", "a/1.png")
    (tmp_path / "set" / "empty").mkdir()
    text(tmp_path / "set" / "l.txt", "1.png")
    (tmp_path / "set" / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=message):
        _ = Opened(
            own(splits={"train": part}), tmp_path / "set", tmp_path / "memory"
        ).survey.splits["train"]


@pytest.mark.parametrize(
    "change", ["byte", "label", "order", "name", "class elsewhere", "other split"]
)
def test_the_fingerprint_tells_changes_and_nothing_else(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "set"
    names = [f"i/{number}.png" for number in range(4)]
    jpegs(folder, *names, "j/1.png")
    text(folder / "train.txt", *(f"{name} {'ab'[number % 2]}" for number, name in enumerate(names)))
    text(folder / "test.txt", "j/1.png a")
    line = {"line": "{image} {class}"}
    card = own(
        splits={"train": {"list": "train.txt", **line}, "test": {"list": "test.txt", **line}}
    )
    settle()
    before = Opened(card, folder, tmp_path / "memory").prints()
    lines = (folder / "train.txt").read_text().splitlines()
    if change == "byte":
        status, data = (folder / names[2]).stat(), bytearray((folder / names[2]).read_bytes())
        data[-30] ^= 1
        (folder / names[2]).write_bytes(data)
        os.utime(folder / names[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "label":
        text(folder / "train.txt", lines[0].replace(" a", " b"), *lines[1:])
    elif change == "order":
        text(folder / "train.txt", *reversed(lines))
    elif change == "name":
        (folder / names[3]).rename(folder / "i/new.png")
        text(folder / "train.txt", *lines[:3], "i/new.png b")
    elif change == "class elsewhere":
        text(folder / "test.txt", "j/1.png A")  # sorted before the others: their labels move
    else:
        (folder / "j/1.png").write_bytes(encode(picture(77)))
    dataset = Opened(card, folder, tmp_path / "memory")
    after = dataset.prints()
    assert (after["train"] == before["train"]) == (change == "other split")
    assert (after["test"] == before["test"]) == (change not in ("class elsewhere", "other split"))
    if change == "byte":
        assert dataset.survey.changes == ["i/2.png has changed"]


def test_images_are_read_once_and_only_those_of_the_splits_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, digest = [], digests_module._digest
    monkeypatch.setattr(
        digests_module, "_digest", lambda tree, name: (read.append(name), digest(tree, name))[1]
    )
    imagenet(tmp_path / "imagenet")
    jpegs(tmp_path / "imagenet", f"val/{SPRINGER}/1.JPEG", f"val/{SPRINGER}/2.JPEG")
    text(tmp_path / "imagenet" / "1percent.txt", f"{SPRINGER}_99.JPEG")
    settle()
    dataset = opened("imagenet", tmp_path / "imagenet")
    _ = dataset.survey.splits["val"]
    assert sorted(read) == [f"val/{SPRINGER}/1.JPEG", f"val/{SPRINGER}/2.JPEG"]
    _ = dataset.survey.splits["train"], dataset.survey.splits["train_1percent"]
    assert len(read) == 7
    prints = dataset.prints()
    again = opened("imagenet", tmp_path / "imagenet")
    assert again.prints() == prints
    assert len(read) == 7
    (tmp_path / "imagenet" / "train" / SPRINGER / f"{SPRINGER}_1.JPEG").unlink()
    jpegs(tmp_path / "imagenet", f"train/{TENCH}/new.JPEG")
    changed = opened("imagenet", tmp_path / "imagenet")
    _ = changed.survey.splits["train"]
    assert changed.survey.changes == [
        f"train/{SPRINGER}/{SPRINGER}_1.JPEG was removed",
        f"train/{TENCH}/new.JPEG was added",
    ]
    assert len(read) == 8


def test_a_long_first_reading_that_is_interrupted_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpegs(tmp_path / "set", *(f"train/a/{number}.png" for number in range(6)))
    settle()
    card = own(splits={"train": {"folders": "train"}})
    monkeypatch.setattr(digests_module, "READ_AT_ONCE", 2)
    monkeypatch.setattr(digests_module, "SAVE_EVERY", 0.0)
    read, digest = [], digests_module._digest

    def stop_at_the_fifth(tree: Any, name: str) -> Any:
        if name.endswith("4.png") and "again" not in read:
            raise KeyboardInterrupt
        read.append(name)
        return digest(tree, name)

    monkeypatch.setattr(digests_module, "_digest", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        _ = Opened(card, tmp_path / "set", tmp_path / "memory").survey.splits["train"]
    read[:] = ["again"]
    assert Opened(card, tmp_path / "set", tmp_path / "memory").survey.splits["train"].count == 6
    assert read == ["again", "train/a/4.png", "train/a/5.png"]
