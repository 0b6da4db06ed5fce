"""HDF5 files that are invalid, damaged or crafted are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import split_of, write_h5
from tests.datasets.readers.hdf5_files import CRAFTED, RISING, crafted
from transfer.artifacts import Images
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers.base import Survey
from transfer.errors import TransferError, UsageError

FAULTS = {
    "no offsets": (crafted(offsets=None), "'train' has no 'offsets'"),
    "no jpeg": (crafted(jpeg=None), "'train' has no 'jpeg'"),
    "only labels": ({"labels": [1]}, "'train' has no 'jpeg'"),
    "offsets go backwards": (crafted(offsets=RISING[[0, 2, 1, 3, 4]]), "must rise"),
    "unsigned offsets go backwards": (
        crafted(offsets=RISING[[0, 2, 1, 3, 4]].astype(np.uint64)),
        "must rise",
    ),
    "offsets beyond the data": (crafted(offsets=RISING + 1), "stay within 'jpeg'"),
    "huge unsigned offsets": (
        crafted(offsets=np.array([0, 1, 2, 3, 2**64 - 1], dtype=np.uint64)),
        "within 'jpeg'",
    ),
    "negative offsets": (crafted(offsets=RISING - 1), "stay within 'jpeg'"),
    "no offset at all": (crafted(offsets=RISING[:0]), "one entry more"),
    "offsets are fractions": (
        crafted(offsets=RISING.astype(float)),
        "'train/offsets' must be 1-D integers",
    ),
    "offsets are a table": (crafted(offsets=RISING[None]), "'train/offsets' must be 1-D integers"),
    "offsets are a number": (crafted(offsets=4), "'train/offsets' must be 1-D integers"),
    "jpeg of 16 bits": (
        crafted(jpeg=np.zeros(9999, dtype=np.uint16)),
        "'train/jpeg' must be 1-D uint8",
    ),
    "jpeg is signed": (
        crafted(jpeg=np.zeros(9999, dtype=np.int8)),
        "'train/jpeg' must be 1-D uint8",
    ),
    "jpeg is pixels": (
        crafted(jpeg=np.zeros((4, 8, 8, 3), dtype=np.uint8)),
        "'train/jpeg' must be 1-D uint8",
    ),
    "too few labels": (crafted(labels=[0, 1, 0]), "3 labels for 4 images"),
    "too many labels": (crafted(labels=[0] * 5), "5 labels for 4 images"),
    "a negative label": (crafted(labels=[0, 1, -1, 0]), "go from -1 to 1"),
    "a label for a billion classes": (crafted(labels=[0, 1, 10**9, 0]), "go from 0 to 1000000000"),
    "labels are texts": (
        crafted(labels=np.array([b"a"] * 4)),
        "'train/labels' must be 1-D integers",
    ),
    "labels are fractions": (
        crafted(labels=[0.0, 1.0, 0.5, 1.0]),
        "'train/labels' must be 1-D integers",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_datasets_that_do_not_fit_together_are_refused(
    file: Path, survey_hdf5: Callable[[Path], Survey], fault: str
) -> None:
    datasets, message = FAULTS[fault]
    with pytest.raises(UsageError, match=message) as error:
        survey_hdf5(write_h5(file, train=datasets))
    assert error.value.exit_code == 2
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"class_names": "[1, 2"}, "delimiter"),
        ({"class_names": '{"a": 1}'}, "a JSON list of names"),
        ({"class_names": "[1, 2]"}, "a JSON list of names"),
        ({"class_names": '["one"]'}, "go from 0 to 1, outside of 0 to 0"),
        ({"class_names": "[" * 100_000}, "."),
        ({"class_names": np.arange(3)}, "."),
        ({"image_size": "large"}, "invalid literal"),
        ({"image_size": -4}, "'image_size' is -4"),
        ({"image_size": [1, 2]}, "."),
    ],
)
def test_attributes_that_make_no_sense_are_refused(
    file: Path, survey_hdf5: Callable[[Path], Survey], attributes: dict[str, Any], message: str
) -> None:
    if isinstance(attributes.get("class_names"), str) and len(attributes["class_names"]) > 60_000:
        attributes = {
            "class_names": attributes["class_names"][:60_000]
        }  # what an attribute can hold
    with pytest.raises(UsageError, match=message):
        survey_hdf5(write_h5(file, train=split_of(2), attributes=attributes))


@pytest.mark.parametrize("craft", CRAFTED, ids=lambda craft: craft.__name__)
def test_a_crafted_file_is_refused_and_no_other_file_is_opened(
    file: Path, survey_hdf5: Callable[[Path], Survey], craft: Callable[[Path], None]
) -> None:
    craft(file)
    others = [path for path in file.parent.iterdir() if path.is_file() and path != file]
    for path in others:
        os.utime(
            path, (1, 1)
        )  # older than its last change, so that reading it would move the time of access
    with pytest.raises(UsageError, match=CRAFTED[craft]) as error:
        survey_hdf5(file)
    assert error.value.exit_code == 2
    assert [path.stat().st_atime for path in others] == [1] * len(others)


def test_a_file_that_is_not_there_or_is_a_folder_is_told(
    file: Path, survey_hdf5: Callable[[Path], Survey]
) -> None:
    with pytest.raises(UsageError, match="No such file"):
        survey_hdf5(file)
    file.mkdir()
    with pytest.raises(UsageError, match="not a regular file"):
        survey_hdf5(file)


def test_damaged_bytes_of_the_file_give_a_message_or_a_set(
    file: Path,
    survey_hdf5: Callable[[Path], Survey],
    plan: Callable[..., Pack],
    packed: Callable[..., Images],
) -> None:
    data = write_h5(file, train=split_of(3)).read_bytes()
    draw = np.random.default_rng(0)
    for trial in range(60):
        damaged = bytearray(data)
        damaged[draw.integers(min(len(data), 4096) if trial % 2 else len(data))] ^= (
            1 << draw.integers(8)
        )
        file.write_bytes(damaged)
        try:
            images = packed(plan("train", hdf5=file), f"trial {trial}")
        except TransferError:
            continue
        assert len(images) <= 3
