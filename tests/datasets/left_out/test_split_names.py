"""Names of splits in other spellings: Train, training, valid, validation, dev, TEST."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Said
from tests.datasets.conftest import encode, fill, picture, split_of, write_h5
from tests.datasets.left_out.conftest import FORMS, set_data, write_shard

pytestmark = pytest.mark.usefixtures("few_images_suffice")

Plan = Callable[..., dict[str, Any]]
PAIRS = [
    ("Train", "Test", "test"),
    ("training", "validation", "val"),
    ("TRAIN", "VAL", "val"),
    ("train", "valid", "val"),
    ("Training", "dev", "val"),
    ("train", "testing", "test"),
    ("train_set", "test_set", "test"),
    ("trainset", "testset", "test"),
]


SCORING = """\
data: {}
stages:
  net:
    uses: pretext/pretrained
    backbone: {name: conv4, width: 0.25}
    random_weights: true
    size: 16
  knn: {uses: evaluate/knn, model: net, k: 1}
"""


@pytest.fixture
def splits_of(invoke: Callable[..., Said], tmp_path: Path) -> Callable[..., list[str]]:
    """Return the splits that a stage reads that trains and scores."""
    file = tmp_path / "scoring.yaml"
    file.write_text(SCORING, encoding="utf-8")

    def splits(**data: Any) -> list[str]:
        stages = json.loads(invoke("status", file, "--json", *set_data(data)).out)["stages"]
        names = [stage["stage"] for stage in stages if stage["uses"] == "images"]
        return [name.rpartition("/")[2] for name in names]

    return splits


@pytest.mark.parametrize(("train", "other", "split"), PAIRS)
@pytest.mark.parametrize("form", FORMS)
def test_folders_are_splits(
    tmp_path: Path,
    splits_of: Callable[..., list[str]],
    form: Callable[[Path], Path],
    train: str,
    other: str,
    split: str,
) -> None:
    names = [f"{part}/{kind}/{row}.png" for part in (train, other) for kind in "ab" for row in "12"]
    path = form(fill(tmp_path / "set", *names))
    assert splits_of(folder=path) == ["train", split]
    assert splits_of(folder=path, split={"train": train, "test": other}) == ["train", split]


@pytest.mark.parametrize(("train", "other", "split"), PAIRS)
def test_shards_are_splits(
    tmp_path: Path,
    splits_of: Callable[..., list[str]],
    train: str,
    other: str,
    split: str,
) -> None:
    for number, part in enumerate((train, other)):
        files = {"1.jpg": encode(picture(number), "JPEG"), "1.cls": b"0"}
        write_shard(tmp_path / "named" / f"{part}-000.tar", files)
        write_shard(tmp_path / "folders" / part / "000.TAR", files)
    assert splits_of(tar=tmp_path / "named") == ["train", split]
    assert splits_of(tar=tmp_path / "folders") == ["train", split]


def shards(folder: Path, *names: str) -> Path:
    """Write a shard of two labeled images under each name, and return the folder."""
    for number, name in enumerate(names):
        data = encode(picture(number), "JPEG")
        files = {"1.jpg": data, "1.cls": b"0", "2.jpg": data, "2.cls": b"1"}
        write_shard(folder / name, files)
    return folder


@pytest.mark.parametrize(
    ("names", "pattern", "splits"),
    [
        (["Train-000.tar", "Validation-000.tar"], "*.tar", ["train", "val"]),
        (["train/000.tar", "test/000.tar"], "*/*.tar", ["train", "test"]),
        (["train-000.tar", "val-000.tar"], "{train,val}-*.tar", ["all"]),  # joined on purpose
        (["train-000.tar", "extra-000.tar"], "*.tar", ["all"]),
        (["train-000.tar", "train-001.tar"], "*.tar", ["all"]),
    ],
)
def test_a_wildcard_does_not_join_splits(
    tmp_path: Path, plan_of: Plan, names: list[str], pattern: str, splits: list[str]
) -> None:
    stage = plan_of(tar=shards(tmp_path / "set", *names) / pattern)["stage"]
    assert stage.rpartition("/")[2] == splits[0]


@pytest.mark.parametrize("pattern", ["", "*.tar"])
def test_a_shard_beside_those_of_splits_is_refused(
    tmp_path: Path, refusal_of: Callable[..., str], pattern: str
) -> None:
    folder = shards(tmp_path / "set", "train-0.tar", "test-0.tar", "extra-0.tar")
    message = "holds splits (train-0.tar, test-0.tar) and shards outside of them (extra-0.tar)"
    assert message in refusal_of(tar=folder / pattern)


def test_groups_of_an_hdf5_file_are_splits(
    tmp_path: Path, splits_of: Callable[..., list[str]]
) -> None:
    path = write_h5(tmp_path / "set.h5", Training=split_of(4), validation=split_of(2))
    assert splits_of(hdf5=path) == ["Training", "validation"]
    assert splits_of(hdf5=path, split={"test": "val"}) == ["Training", "validation"]


def test_groups_that_are_the_same_split_are_refused(
    tmp_path: Path, refusal_of: Callable[..., str]
) -> None:
    path = write_h5(tmp_path / "set.h5", train=split_of(4), training=split_of(2))
    assert "set.h5: 'train' and 'training' are both the split 'train'" in refusal_of(hdf5=path)


def test_unlabeled_stages_do_not_learn_from_the_test_folder(tmp_path: Path, plan_of: Plan) -> None:
    folder = fill(tmp_path / "set", "Train/a/1.png", "Test/a/1.png")
    assert plan_of(folder=folder)["stage"] == "set/train"


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (["Train/1.png", "Car/1.png", "Boat/1.png"], "all"),  # vehicles
        (["Dev/1.png", "Test pilot/1.png"], "all"),
        (["Train/a/1.png", "notes/read.txt"], "train"),
        (["Validation/a/1.png"], "val"),
        (["Training Set/a/1.png", "Test Set/a/1.png"], "train"),
        (["seg_train/a/1.png", "seg_test/a/1.png"], "train"),
        (["Test set/1.png", "offset/1.png", "seg_car/1.png"], "all"),
    ],
)
def test_a_class_may_be_called_like_a_split(
    tmp_path: Path, plan_of: Plan, names: list[str], split: str
) -> None:
    assert plan_of(folder=fill(tmp_path / "set", *names))["stage"] == f"set/{split}"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["val/a/1.png", "valid/a/1.png"], "'val' and 'valid' are both the split 'val'"),
        (["Train/a/1.png", "Test/a/1.png", "more/1.png"], "holds splits (Train, Test) and images"),
        (["Train/a/1.png", "Test/a/1.cr2"], "/set/Test holds no images"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, refusal_of: Callable[..., str], names: list[str], message: str
) -> None:
    assert message in refusal_of(folder=fill(tmp_path / "set", *names)).replace(str(tmp_path), "")


def test_an_archive_in_a_folder_of_its_own_name(tmp_path: Path, plan_of: Plan) -> None:
    folder = fill(tmp_path / "training", "a/1.png", "b/1.png")
    for form in FORMS[1:]:
        assert plan_of(folder=form(folder))["stage"].endswith("/all")


@pytest.mark.parametrize("splits", [("Test", "Train"), ("train", "val")])
def test_a_folder_above_that_of_the_splits_gives_a_hint(
    tmp_path: Path, plan_of: Plan, refusal_of: Callable[..., str], splits: tuple[str, str]
) -> None:
    first, second = splits
    folder = fill(tmp_path / "set", *(f"DS/{split}/a/1.png" for split in splits))
    hint = f"DS holds {first} and {second}: did you mean {folder / 'DS'}?"
    assert plan_of(folder=folder)["note"] == hint
    assert f"has no split 'test' (it has: all); {hint}" in refusal_of(folder=folder, split="test")
    assert plan_of(folder=folder, labels=False)["note"] == ""
    assert plan_of(folder=folder / "DS")["note"] == ""
