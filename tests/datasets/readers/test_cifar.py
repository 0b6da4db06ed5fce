"""CIFAR in its published forms: Python and binary files, gzipped, and in archives."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.miniature import noise, opened, settle
from tests.datasets.readers.record_files import (
    archive,
    check,
    cifar10_binary,
    cifar10_python,
    planes,
    python2_pickle,
    unpack,
)
from transfer.datasets.readers import binary_records
from transfer.errors import UsageError


def modern(protocol: int) -> Callable[[Any], bytes]:
    return lambda value: pickle.dumps(value, protocol=protocol)


FORMS: dict[str, Callable[[Path], np.ndarray]] = {}


def form(make: Callable[[Path], np.ndarray]) -> Callable[[Path], np.ndarray]:
    FORMS[make.__name__] = make
    return make


@form
def python_files(place: Path) -> np.ndarray:
    files, images = cifar10_python()
    unpack(place, files)
    return images


@form
def python_files_of_a_later_python(place: Path) -> np.ndarray:
    files, images = cifar10_python(modern(4))
    unpack(place, files)
    return images


@form
def python_archive(place: Path) -> np.ndarray:
    files, images = cifar10_python()
    archive(place / "cifar-10-python.tar.gz", files)
    return images


@form
def binary_files(place: Path) -> np.ndarray:
    files, images = cifar10_binary()
    unpack(place, files)
    return images


@form
def binary_files_without_their_folder(place: Path) -> np.ndarray:
    files, images = cifar10_binary()
    unpack(place, {name.partition("/")[2]: data for name, data in files.items()})
    return images


@form
def binary_archive(place: Path) -> np.ndarray:
    files, images = cifar10_binary()
    archive(place / "cifar-10-binary.tar.gz", files)
    return images


@form
def gzipped_binary_files(place: Path) -> np.ndarray:
    files, images = cifar10_binary()
    unpack(place, {f"{name}.gz": gzip.compress(data) for name, data in files.items()})
    return images


@pytest.mark.parametrize("make", FORMS)
def test_cifar10_is_read_in_every_form_to_the_same_pixels_labels_and_ids(
    tmp_path: Path, make: str
) -> None:
    images = FORMS[make](tmp_path / "cifar10")
    dataset = opened("cifar10", tmp_path / "cifar10")
    assert (dataset.survey.size, len(dataset.survey.classes)) == (32, 10)
    check(dataset, "train", images[:20], [row % 10 for row in range(20)])
    check(dataset, "test", images[20:], [0, 1, 2, 3])
    assert dataset.listing("train").ids[:5] == [
        "data_batch_1/0",
        "data_batch_1/1",
        "data_batch_1/2",
        "data_batch_1/3",
        "data_batch_2/0",
    ]


def test_an_archive_may_be_named_itself(tmp_path: Path) -> None:
    files, images = cifar10_python()
    path = archive(tmp_path / "downloads" / "cifar-10-python.tar.gz", files)
    check(opened("cifar10", path), "test", images[20:], [0, 1, 2, 3])


@pytest.mark.parametrize("labels", ["fine", "coarse"])
@pytest.mark.parametrize("binary", [False, True])
def test_cifar100_has_fine_and_coarse_labels(tmp_path: Path, labels: str, binary: bool) -> None:
    images, files = noise(9, 32), {}
    fine, coarse = [0, 99, 7, 50, 3, 3], [0, 19, 7, 5, 3, 3]
    for name, rows in (("train", slice(0, 6)), ("test", slice(6, 9))):
        count = len(images[rows])
        if binary:
            head = np.array([coarse[:count], fine[:count]], dtype=np.uint8).T
            files[f"cifar-100-binary/{name}.bin"] = np.hstack(
                [head, planes(images[rows])]
            ).tobytes()
        else:
            batch = {
                b"fine_labels": fine[:count],
                b"coarse_labels": coarse[:count],
                b"data": planes(images[rows]),
            }
            files[f"cifar-100-python/{name}"] = python2_pickle(batch)
    unpack(tmp_path / "cifar100", files)
    dataset = opened("cifar100" if labels == "fine" else "cifar100_coarse", tmp_path / "cifar100")
    assert len(dataset.survey.classes) == (100 if labels == "fine" else 20)
    check(dataset, "train", images[:6], fine if labels == "fine" else coarse)
    check(dataset, "test", images[6:], (fine if labels == "fine" else coarse)[:3])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({b"labels": [0, 1]}, "has no images of 3,072 bytes under 'data'"),
        ({b"data": [1, 2], b"labels": [0, 1]}, "has no images of 3,072 bytes"),
        ({b"data": noise(2, 16).reshape(2, -1), b"labels": [0, 1]}, "has no images of 3,072 bytes"),
        ({b"data": planes(noise(2, 32))}, "has no list of whole numbers under 'labels'"),
        ({b"data": planes(noise(2, 32)), b"labels": [b"a", b"b"]}, "has no list of whole numbers"),
        ({b"data": planes(noise(2, 32)), b"labels": [0]}, "has 2 images and 1 label"),
        (
            {b"data": planes(noise(2, 32)), b"labels": [0, 10]},
            "has labels from 0 to 10, outside of 0 to 9",
        ),
    ],
)
def test_batches_that_make_no_sense_are_refused(
    tmp_path: Path, batch: dict[bytes, Any], message: str
) -> None:
    files, _ = cifar10_python()
    files["cifar-10-batches-py/data_batch_2"] = python2_pickle(batch)
    dataset = opened("cifar10", unpack(tmp_path / "cifar10", files))
    with pytest.raises(UsageError, match=message):
        _ = dataset.survey.splits["train"]


def truncated(place: Path) -> None:
    path = archive(place / "cifar-10-binary.tar.gz", cifar10_binary()[0])
    path.write_bytes(path.read_bytes()[:-20000])


def no_archive(place: Path) -> None:
    place.mkdir(parents=True)
    (place / "cifar-10-binary.tar.gz").write_bytes(b"<html>not found</html>")


def without_a_batch(place: Path) -> None:
    files, _ = cifar10_binary()
    del files["cifar-10-batches-bin/data_batch_3.bin"]
    archive(place / "cifar-10-binary.tar.gz", files)


def leads_out(place: Path) -> None:
    archive(place / "cifar-10-binary.tar.gz", {"../escaped.bin": b"x", **cifar10_binary()[0]})


def absolute(place: Path) -> None:
    archive(place / "cifar-10-binary.tar.gz", {"/etc/escaped": b"x", **cifar10_binary()[0]})


def a_link(place: Path) -> None:
    files, _ = cifar10_binary()
    del files["cifar-10-batches-bin/data_batch_1.bin"]
    place.mkdir(parents=True)
    with tarfile.open(place / "cifar-10-binary.tar.gz", "w:gz") as target:
        member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        target.addfile(member)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))


def truncated_gz(place: Path) -> None:
    gzipped_binary_files(place)
    path = place / "cifar-10-batches-bin" / "data_batch_1.bin.gz"
    path.write_bytes(path.read_bytes()[:-200])


ARCHIVES: dict[Callable[[Path], None], str] = {
    truncated: "not a complete tar archive",
    no_archive: "not a complete tar archive",
    without_a_batch: "has no data_batch_3.bin",
    leads_out: "its path leads out of the set",
    absolute: "its path is absolute",
    a_link: "it is not a plain file",
    truncated_gz: "not a complete .gz file",
}


@pytest.mark.parametrize("fault", ARCHIVES, ids=lambda fault: fault.__name__)
def test_damaged_and_crafted_archives_are_refused(
    tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    fault(tmp_path / "cifar10")
    before = {path for path in tmp_path.rglob("*") if "memory" not in path.parts}
    dataset = opened("cifar10", tmp_path / "cifar10")
    with pytest.raises(UsageError, match=ARCHIVES[fault]):
        _ = dataset.survey.splits["train"]
    assert {path for path in tmp_path.rglob("*") if "memory" not in path.parts} == before


def test_what_was_checked_once_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    python_archive(tmp_path / "cifar10")
    settle()
    before = opened("cifar10", tmp_path / "cifar10").prints()
    monkeypatch.setattr(binary_records, "extract", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(binary_records, "np", None)
    assert opened("cifar10", tmp_path / "cifar10").prints() == before
