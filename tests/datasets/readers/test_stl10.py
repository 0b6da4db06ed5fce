"""STL-10: binary files of images, of labels and of folds."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.miniature import opened, settle
from tests.datasets.readers.record_files import (
    check,
    stl10,
)
from transfer.errors import BadImage, UsageError


@pytest.mark.parametrize("root", ["stl10_binary", "."])
def test_stl10_is_read_from_its_binaries_with_its_folds(tmp_path: Path, root: str) -> None:
    images = stl10(tmp_path / "stl10" / root / "x" if root == "." else tmp_path / "stl10" / root)
    place = tmp_path / "stl10" / "x" if root == "." else tmp_path / "stl10"
    dataset = opened("stl10", place)
    assert dataset.survey.classes[:2] == ["airplane", "bird"]
    assert dataset.survey.size == 96
    assert list(dataset.survey.splits) == [
        "unlabeled",
        "train",
        "test",
        *[f"train_fold{fold}" for fold in range(10)],
    ]
    check(dataset, "unlabeled", images["unlabeled"], None)
    check(dataset, "train", images["train"], [row % 10 for row in range(12)])
    check(dataset, "test", images["test"], [0, 1, 2, 3, 4])
    rows = [9, 10, 11, 0]
    check(dataset, "train_fold3", images["train"][rows], [row % 10 for row in rows])
    assert dataset.listing("train_fold3").ids == [f"train_X/{row}" for row in rows]
    assert len(set(dataset.prints().values())) == 13


def test_stl10_is_never_whole_in_memory(tmp_path: Path) -> None:
    stl10(tmp_path / "stl10" / "stl10_binary", unlabeled=400)
    np.zeros(1)
    tracemalloc.start()
    dataset = opened("stl10", tmp_path / "stl10")
    listing = dataset.listing("unlabeled")
    listing.read(399)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "stl10" / "stl10_binary" / "unlabeled_X.bin").stat().st_size > 11e6
    assert peak < 4e6


def test_a_part_of_stl10_can_be_used_and_the_rest_is_told_with_its_command(tmp_path: Path) -> None:
    place = tmp_path / "some where" / "stl10"
    stl10(place / "stl10_binary")
    (place / "stl10_binary" / "unlabeled_X.bin").unlink()
    dataset = opened("stl10", place)
    assert dataset.survey.resolve_split("train", explicit=False) == "train"
    for explicit in (True, False):
        with pytest.raises(
            UsageError, match=r"lacks its split 'unlabeled': .* has no unlabeled_X.bin"
        ) as error:
            dataset.survey.resolve_split("unlabeled", explicit)
        assert "stl10_binary/ with" in str(error.value)
        assert f"STL10(sys.argv[1], download=True)\" '{place}'\n" in str(error.value)
    with pytest.raises(UsageError, match=r"has no split 'val' \(it has: train, test, train_fold0"):
        dataset.survey.resolve_split("val", explicit=True)


@pytest.mark.parametrize("file", ["train_X.bin", "train_y.bin", "fold_indices.txt"])
def test_a_changed_byte_changes_the_fingerprint_of_the_splits_that_it_is_of(
    tmp_path: Path, file: str
) -> None:
    stl10(tmp_path / "stl10")
    settle()
    before = opened("stl10", tmp_path / "stl10")
    prints = before.prints()
    assert opened("stl10", tmp_path / "stl10").prints() == prints
    path = tmp_path / "stl10" / file
    status, data = path.stat(), bytearray(path.read_bytes())
    if file == "fold_indices.txt":
        data = bytearray(data.replace(b"0 1 2 3", b"0 1 2 4", 1))
    else:
        data[5] = data[5] % 9 + 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = opened("stl10", tmp_path / "stl10")
    changed = {
        split for split, fingerprint in after.prints().items() if fingerprint != prints[split]
    }
    folds = {f"train_fold{fold}" for fold in range(10)}
    assert changed == (folds if file == "fold_indices.txt" else folds | {"train"})
    assert f"{file} has changed" in after.survey.changes


def cut(folder: Path) -> None:
    with open(folder / "train_X.bin", "r+b") as file:
        file.truncate(27648 * 3 + 1)


def empty(folder: Path) -> None:
    (folder / "train_X.bin").write_bytes(b"")


def fewer_labels(folder: Path) -> None:
    (folder / "train_y.bin").write_bytes(bytes(range(1, 11)))


def label_zero(folder: Path) -> None:
    (folder / "train_y.bin").write_bytes(bytes(12))


def label_eleven(folder: Path) -> None:
    (folder / "train_y.bin").write_bytes(bytes([11] * 12))


STL_FAULTS: dict[Callable[[Path], None], str] = {
    cut: r"train_X.bin has 82,945 bytes, not a whole number of images of 27,648: it is truncated",
    empty: "train_X.bin has 0 bytes",
    fewer_labels: "split 'train' has 12 images and 10 labels",
    label_zero: "split 'train' has labels from -1 to -1, outside of 0 to 9",
    label_eleven: "has labels from 10 to 10, outside of 0 to 9",
}


@pytest.mark.parametrize("fault", STL_FAULTS, ids=lambda fault: fault.__name__)
def test_damaged_binaries_are_refused_and_other_splits_can_be_used(
    tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    images = stl10(tmp_path / "stl10")
    fault(tmp_path / "stl10")
    dataset = opened("stl10", tmp_path / "stl10")
    check(dataset, "test", images["test"], [0, 1, 2, 3, 4])
    with pytest.raises(UsageError, match=STL_FAULTS[fault]):
        _ = dataset.survey.splits["train"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1 2 99\n", "asks for image 99 of 12"),
        ("1 2 1\n", "line 1 names a row twice"),
        ("1 two\n", "line 1 is not a list of rows"),
        ("\n", "line 1 names no rows"),
        ("1 2\n", "line 2 is not a list of rows"),
        ("9" * 30, "line 1 is not a list of rows"),
    ],
)
def test_faulty_folds_are_refused(tmp_path: Path, lines: str, message: str) -> None:
    stl10(tmp_path / "stl10")
    (tmp_path / "stl10" / "fold_indices.txt").write_text(lines)
    dataset = opened("stl10", tmp_path / "stl10")
    with pytest.raises(UsageError, match=message):
        _ = dataset.survey.splits["train_fold1" if "line 2" in message else "train_fold0"]


def test_a_file_that_becomes_shorter_while_it_is_read_is_told(tmp_path: Path) -> None:
    stl10(tmp_path / "stl10")
    listing = opened("stl10", tmp_path / "stl10").listing("train")
    with open(tmp_path / "stl10" / "train_X.bin", "r+b") as file:
        file.truncate(100)
    with pytest.raises(BadImage, match="has become shorter"):
        listing.read(3)
