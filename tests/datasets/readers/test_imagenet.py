"""ImageNet in its published layouts, and its subsets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.datasets.miniature import jpegs, opened, text
from tests.datasets.readers.listed_sets import (
    CRANE,
    CRANE_TOO,
    SPRINGER,
    TENCH,
    imagenet,
    labeled,
    meta_mat,
    same_bytes,
)
from transfer.errors import UsageError


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
