"""HDF5 image sets: splits, labels, ways of storage, and fingerprints."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.datasets.conftest import encode, picture, split_of, write_h5
from tests.datasets.miniature import settle
from transfer.artifacts import Images
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers import hdf5 as hdf5_module
from transfer.datasets.readers import hdf5_bytes
from transfer.datasets.readers.base import Survey
from transfer.datasets.readers.hdf5 import Hdf5Source
from transfer.errors import BadImage, TransferError, UsageError


def test_groups_are_splits_with_classes_and_size(
    file: Path, survey_hdf5: Callable[[Path], Survey]
) -> None:
    attributes = {"class_names": '["cat", "dog"]', "image_size": 24, "note": "for a test"}
    survey = survey_hdf5(write_h5(file, train=split_of(5), test=split_of(3), attributes=attributes))
    assert {name: (split.count, split.labeled) for name, split in survey.splits.items()} == {
        "test": (3, True),
        "train": (5, True),
    }
    assert (survey.classes, survey.size) == (["cat", "dog"], 24)


def test_pictures_labels_and_ids_are_packed_in_order(
    file: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    encoded = [encode(picture(number, 16, 16)) for number in range(4)]
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    labels = np.array([3, 0, 2, 0], dtype=">i4")
    write_h5(
        file, train={"jpeg": data, "offsets": np.cumsum([0, *map(len, encoded)]), "labels": labels}
    )
    images = packed(plan(hdf5=file))
    assert images.ids == ["train/0", "train/1", "train/2", "train/3"]
    assert images.labels is not None
    assert images.labels.tolist() == [3, 0, 2, 0]
    assert images.classes == ["0", "1", "2", "3"]
    assert all(
        (images.pixels[number] == np.asarray(picture(number, 16, 16))).all() for number in range(4)
    )


def test_labels_may_be_absent_and_other_groups_are_passed_over(
    file: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    good = split_of(2)
    del good["labels"]
    write_h5(file, unlabeled=good, statistics={"mean": np.zeros(3)})
    images = packed(plan(hdf5=file))
    assert images.labels is None
    assert images.classes == []


@pytest.mark.parametrize(
    "storage", [{"compression": "gzip", "chunks": (512,)}, {"chunks": (100,), "fletcher32": True}]
)
def test_compressed_and_chunked_bytes_are_read(
    file: Path, plan: Callable[..., Pack], packed: Callable[..., Images], storage: dict[str, Any]
) -> None:
    plain = packed(plan(hdf5=write_h5(file.with_name("plain.h5"), train=split_of(6))), "plain")
    with h5py.File(file, "w") as target:
        for name, values in split_of(6).items():
            target.create_dataset(
                f"train/{name}", data=values, **(storage if name == "jpeg" else {})
            )
    assert (packed(plan(hdf5=file), "stored").pixels == plain.pixels).all()


def opened_files(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list to which each file that HDF5 opens from now on is added."""
    opened, real = [], h5py.File
    monkeypatch.setattr(
        hdf5_module.h5py,
        "File",
        lambda path, *rest, **more: (opened.append(path), real(path, *rest, **more))[1],
    )
    return opened


def _same(listing: Any, encoded: list[bytes]) -> None:
    os._exit(0 if [listing.read(row) for row in range(len(encoded))] == encoded else 1)


@pytest.mark.parametrize(
    ("storage", "plain"),
    [
        ({}, True),
        ({"chunks": (300,)}, False),
        ({"compression": "gzip"}, False),
        ({"shuffle": True}, False),
    ],
)
@pytest.mark.parametrize("userblock", [0, 512])
def test_images_are_read_by_threads_and_processes_past_hdf5_where_they_lie_in_one_piece(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    storage: dict[str, Any],
    plain: bool,
    userblock: int,
) -> None:
    good = split_of(6)
    with h5py.File(file, "w", userblock_size=userblock) as target:
        for name, values in good.items():
            target.create_dataset(
                f"train/{name}", data=values, **(storage if name == "jpeg" else {})
            )
    encoded = [
        good["jpeg"][a:b].tobytes()
        for a, b in zip(good["offsets"], good["offsets"][1:], strict=False)
    ]
    listing = Hdf5Source(file).listing("train")
    opened = opened_files(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(listing.read, range(6))) == encoded
    assert bool(opened) != (plain and not userblock)
    child = multiprocessing.get_context("fork").Process(target=_same, args=(listing, encoded))
    child.start()
    child.join(30)
    assert child.exitcode == 0


def test_neighbors_in_a_compressed_file_are_unpacked_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_bytes, "BLOCK", 1000)
    good = split_of(40)
    with h5py.File(file, "w") as target:
        for name, values in good.items():
            storage = {"compression": "gzip", "chunks": (500,)} if name == "jpeg" else {}
            target.create_dataset(f"train/{name}", data=values, **storage)
    listing = Hdf5Source(file).listing("train")
    opened = opened_files(monkeypatch)
    for row, (start, end) in enumerate(zip(good["offsets"], good["offsets"][1:], strict=False)):
        assert listing.read(row) == good["jpeg"][start:end].tobytes()
    assert len(opened) == -(-len(good["jpeg"]) // 1000)


def test_a_file_that_becomes_shorter_while_it_is_read_is_told(file: Path) -> None:
    listing = Hdf5Source(write_h5(file, train=split_of(4))).listing("train")
    with open(file, "r+b") as shorter:
        shorter.truncate(100)
    with pytest.raises(BadImage, match="has become shorter"):
        listing.read(3)
    file.unlink()
    with pytest.raises(OSError, match="No such file"):
        listing.read(3)


def test_a_set_of_larger_images_than_can_be_packed_asks_for_a_size(
    file: Path, sets: Callable[..., Any]
) -> None:
    from transfer.datasets.spec import ImageSpec

    write_h5(file, train=split_of(2), attributes={"image_size": 4000})
    with pytest.raises(UsageError, match="images of 4000 px: set `size:`, 8 to 1024"):
        sets().pack(ImageSpec(hdf5=str(file)), "train", labeled=True)
    assert sets().pack(ImageSpec(hdf5=str(file), size=32), "train", labeled=True).size == 32


def test_an_empty_split_is_refused(file: Path, plan: Callable[..., Pack]) -> None:
    empty = {
        "jpeg": np.zeros(0, dtype=np.uint8),
        "offsets": [0],
        "labels": np.zeros(0, dtype=np.int64),
    }
    write_h5(file, train=empty, test=split_of(1))
    with pytest.raises(UsageError, match="split 'train', holds no images"):
        plan("train", hdf5=file)


def test_the_fingerprint_is_of_bytes_alone_and_differs_between_splits(
    file: Path, survey_hdf5: Callable[[Path], Survey]
) -> None:
    before = survey_hdf5(write_h5(file, train=split_of(3), test=split_of(3)))
    assert before.splits["train"].fingerprint != before.splits["test"].fingerprint
    copy = file.with_name("copy.h5")
    copy.write_bytes(file.read_bytes())
    os.utime(copy, (5, 5))
    assert survey_hdf5(copy) == before
    settle()
    survey_hdf5(copy)
    status, data = copy.stat(), bytearray(copy.read_bytes())
    data[-100] ^= 1
    copy.write_bytes(data)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert survey_hdf5(copy).splits["train"].fingerprint != before.splits["train"].fingerprint


def test_a_file_is_read_once_and_then_remembered_without_h5py(
    file: Path, survey_hdf5: Callable[[Path], Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_h5(file, train=split_of(3), attributes={"image_size": 24})
    settle()
    before = survey_hdf5(file)
    monkeypatch.setattr(Hdf5Source, "_read_facts", lambda self: pytest.fail("read again"))
    monkeypatch.setattr(hdf5_module, "h5py", None)
    assert survey_hdf5(file) == before


def test_bad_pictures_are_listed_with_their_rows(
    file: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    encoded = [encode(picture(0)), b"", b"text", encode(picture(1))]
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    write_h5(file, train={"jpeg": data, "offsets": np.cumsum([0, *map(len, encoded)])})
    with pytest.raises(TransferError) as error:
        packed(plan(hdf5=file))
    assert str(error.value).splitlines()[1:3] == [
        "  train/1: an empty file: copy or download it again",
        "  train/2: a text, not a picture",
    ]


def test_a_file_that_changed_since_it_was_planned_is_told(
    file: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    pack = plan(hdf5=write_h5(file, train=split_of(3)))
    write_h5(file, train=split_of(3, first=9))
    with pytest.raises(TransferError, match="has changed since this run looked at it"):
        packed(pack)
    file.unlink()
    with pytest.raises(TransferError, match="No such file"):
        packed(pack)
