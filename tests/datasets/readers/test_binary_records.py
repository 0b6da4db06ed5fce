"""Files of pixels in their real formats: STL-10, CIFAR, Fashion-MNIST."""

from __future__ import annotations

import gzip
import io
import multiprocessing
import os
import pickle
import re
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.miniature import count_refused, noise, opened, pixels, settle
from transfer.datasets.readers import binary_records
from transfer.datasets.readers.safe_pickle import UnsafePickle, read_plain_pickle
from transfer.errors import BadImage, UsageError


def check(dataset: Any, split: str, images: np.ndarray, labels: list[int] | None) -> None:
    """Check all pixels of a split, read by several threads and by a forked process."""
    listing = dataset.listing(split)
    assert listing.labels == labels
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda row: pixels(listing, row), range(len(images))))
    assert all(image.dtype == np.uint8 and image.flags.c_contiguous for image in read)
    assert np.array_equal(np.stack(read), np.broadcast_to(images, (*images.shape[:3], 3)))
    child = multiprocessing.get_context("fork").Process(target=_same, args=(listing, read))
    child.start()
    child.join(30)
    assert child.exitcode == 0


def _same(listing: Any, read: list[np.ndarray]) -> None:
    same = all(np.array_equal(listing.read(row), image) for row, image in enumerate(read))
    os._exit(0 if same else 1)


# STL-10


def stl10(
    folder: Path, unlabeled: int = 7, train: int = 12, test: int = 5
) -> dict[str, np.ndarray]:
    """Write column after column, red first; labels from 1; folds as rows of train."""
    folder.mkdir(parents=True)
    images = {}
    for seed, (split, count) in enumerate(
        {"unlabeled": unlabeled, "train": train, "test": test}.items()
    ):
        images[split] = noise(count, 96, seed)
        images[split].transpose(0, 3, 2, 1).tofile(folder / f"{split}_X.bin")
        if split != "unlabeled":
            (np.arange(count) % 10 + 1).astype(np.uint8).tofile(folder / f"{split}_y.bin")
    folds = [
        " ".join(str((3 * fold + step) % train) for step in range(4)) + " " for fold in range(10)
    ]
    (folder / "fold_indices.txt").write_text("\n".join(folds) + "\n")
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    return images


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


# CIFAR


def python2_pickle(value: Any) -> bytes:
    """Pickle as Python 2 did, and as CIFAR's files: protocol 2, byte strings, numpy's old names."""

    def write(value: Any) -> bytes:
        if isinstance(value, dict):
            return b"}(" + b"".join(write(key) + write(item) for key, item in value.items()) + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(write, value)) + b"e"
        if isinstance(value, bytes):
            short = len(value) < 256
            return (
                b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))
            ) + value
        if isinstance(value, int):
            return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)
        shape = write(value.shape[0]) + write(value.shape[1]) + b"\x86"
        function = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02"
        made = function + b"K\x00\x85U\x01b\x87Rq\x03"
        minus = b"J\xff\xff\xff\xff"
        dtype = (
            b"cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNN"
            + minus
            + minus
            + b"K\x00tb"
        )
        return made + b"(K\x01" + shape + dtype + b"\x89" + write(value.tobytes()) + b"tb"

    return b"\x80\x02" + write(value) + b"."


def planes(images: np.ndarray) -> np.ndarray:
    """Return (n, 3072): red, green, blue, row after row."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def cifar10_python(
    dump: Callable[[Any], bytes] = python2_pickle,
) -> tuple[dict[str, bytes], np.ndarray]:
    images = noise(24, 32)
    files = {}
    for number in range(6):
        name = "test_batch" if number == 5 else f"data_batch_{number + 1}"
        rows = images[4 * number : 4 * number + 4]
        files[f"cifar-10-batches-py/{name}"] = dump(
            {
                b"batch_label": b"training batch",
                b"labels": [(4 * number + row) % 10 for row in range(4)],
                b"data": planes(rows),
                b"filenames": [f"tiger_s_{row:06}.png".encode() for row in range(4)],
            }
        )
    files["cifar-10-batches-py/batches.meta"] = dump(
        {b"label_names": [b"airplane"], b"num_vis": 3072}
    )
    return files, images


def cifar10_binary() -> tuple[dict[str, bytes], np.ndarray]:
    images, files = noise(24, 32), {}
    for number in range(6):
        name = "test_batch" if number == 5 else f"data_batch_{number + 1}"
        labels = np.array([[(4 * number + row) % 10] for row in range(4)], dtype=np.uint8)
        data = np.hstack([labels, planes(images[4 * number : 4 * number + 4])])
        files[f"cifar-10-batches-bin/{name}.bin"] = data.tobytes()
    return files, images


def unpack(place: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def archive(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as target:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))
    return path


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


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_data_is_read_whatever_wrote_the_pickle(protocol: int, order: Any) -> None:
    pixels = np.asarray(noise(3, 4).reshape(3, -1), order=order)
    data = {"labels": [0, 300, -7, 1 << 70], "data": pixels, "name": "größe", "none": None}
    plain = read_plain_pickle(pickle.dumps(data, protocol=protocol))
    assert plain.keys() == data.keys()
    assert plain["labels"] == data["labels"]
    assert np.array_equal(plain["data"], pixels)
    assert (plain["name"], plain["none"]) == ("größe", None)


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


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


def array_of(dtype: bytes, shape: tuple[int, int], data: bytes) -> bytes:
    whole = python2_pickle({b"data": np.zeros((2, 3), dtype=np.uint8), b"labels": [0, 1]})
    return (
        whole.replace(b"U\x02u1", b"U\x02" + dtype)
        .replace(b"K\x02K\x03\x86", b"K" + bytes([shape[0]]) + b"K" + bytes([shape[1]]) + b"\x86")
        .replace(b"U\x06" + bytes(6), b"U" + bytes([len(data)]) + data)
    )


LISTS = b"".join(b"]q%c(h%ch%ce" % (number + 1, number, number) for number in range(60))
NESTED = (
    b"\x80\x02}U\x01a(]q\x00" + LISTS + b"ts."
)  # the last would have 2 ** 60 items within items
PICKLES = {
    "runs a command": (
        pickle.dumps({b"data": Harmful(), b"labels": [0]}),
        "asks for '(posix|nt) system'",
    ),
    "runs a command by an old name": (
        b"\x80\x02}U\x04datacos\nsystem\nU\x04true\x85Rs.",
        "asks for 'os system'",
    ),
    "calls a built-in": (
        b"\x80\x02}U\x04datac__builtin__\neval\nU\x011\x85Rs.",
        "asks for '__builtin__ eval'",
    ),
    "reads a file by numpy": (
        b"\x80\x02}U\x04datacnumpy\nfromfile\nU\x01x\x85Rs.",
        "asks for 'numpy fromfile'",
    ),
    "makes an instance": (
        b"\x80\x02(ios\nsystem\n.",
        "operation INST|it asks for|not a readable pickle",
    ),
    "asks for what is elsewhere": (b"\x80\x02}U\x01aU\x011Qs.", "operation BINPERSID"),
    "asks for an extension": (b"\x80\x02\x82\x01.", "operation EXT1|not a readable pickle"),
    "objects in an array": (array_of(b"O8", (2, 3), bytes(6)), "an array of type 'O8'"),
    "numbers of eight bytes": (array_of(b"i8", (2, 3), bytes(6)), "an array of type 'i8'"),
    "an array larger than its bytes": (
        array_of(b"u1", (200, 200), bytes(6)),
        r"shape \(200, 200\) in 6 bytes",
    ),
    "lists within lists": (NESTED, "a list of anything but numbers and texts"),
    "a list that holds itself": (b"\x80\x02}U\x01a]q\x00h\x00as.", "a list of anything but"),
    "no dict": (pickle.dumps([1, 2]), "a dict is required"),
    "cut": (python2_pickle({b"data": noise(2, 4).reshape(2, -1)})[:-30], "not a readable pickle"),
    "nothing": (b"", "not a readable pickle"),
    "no pickle": (b"not a pickle at all", "pickle|operation"),
    "an empty stack": (b"\x80\x02s.", "its stack is empty|not a readable pickle"),
    "a key that cannot be one": (b"\x80\x02}]K\x01s.", "not a readable pickle"),
    "a missing megabyte": (b"\x80\x02T\xff\xff\xff\x7fabc.", "not a readable pickle"),
    "too long a number": (b"\x80\x02}U\x01aI" + b"9" * 5000 + b"\ns.", "not a readable pickle"),
}


@pytest.mark.parametrize("what", PICKLES)
def test_a_pickle_of_more_than_plain_data_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data, message = PICKLES[what]
    with pytest.raises(UnsafePickle, match=message):
        read_plain_pickle(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_any_damage_to_a_pickle_gives_a_message_or_data() -> None:
    whole = python2_pickle(
        {b"data": noise(2, 4).reshape(2, -1), b"labels": [1, 2], b"filenames": [b"a", b"b"]}
    )

    def read(damaged: bytes) -> None:
        assert isinstance(read_plain_pickle(damaged), dict)

    assert count_refused(whole, UnsafePickle, read) > 500


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


# Fashion-MNIST


def idx(data: np.ndarray) -> bytes:
    return (
        b"\0\0\x08"
        + bytes([data.ndim])
        + struct.pack(f">{data.ndim}I", *data.shape)
        + data.tobytes()
    )


def fashion(place: Path, zipped: bool) -> np.ndarray:
    images = noise(11, 28, channels=1)
    files = {}
    for name, rows in (("train", slice(0, 8)), ("t10k", slice(8, 11))):
        files[f"{name}-images-idx3-ubyte"] = idx(images[rows, :, :, 0])
        files[f"{name}-labels-idx1-ubyte"] = idx(
            (np.arange(len(images[rows])) % 10).astype(np.uint8)
        )
    if zipped:
        files = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    unpack(place / "FashionMNIST" / "raw", files)
    return images


@pytest.mark.parametrize("zipped", [False, True])
def test_fashion_mnist_is_read_from_idx_files_as_gray_color(tmp_path: Path, zipped: bool) -> None:
    images = fashion(tmp_path / "fashion_mnist", zipped)
    dataset = opened("fashion_mnist", tmp_path / "fashion_mnist")
    check(dataset, "train", images[:8], list(range(8)))
    check(dataset, "test", images[8:], [0, 1, 2])
    assert dataset.listing("test").ids == [f"t10k-images-idx3-ubyte/{row}" for row in range(3)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an idx file of bytes"),
        (b"\0\0\x0d\x03" + bytes(12), "is not an idx file of bytes"),
        (b"\0\0\x08\x03\0\0", "is not an idx file of bytes"),
        (
            idx(noise(8, 28, channels=1)[..., 0])[:-1],
            r"has 6,287 bytes instead of 6,288: it is truncated",
        ),
        (idx(noise(8, 28, channels=1)[..., 0]) + b"x", "6,289 bytes instead of 6,288"),
        (
            idx(noise(8, 27, channels=1)[..., 0]),
            "holds images of 27 x 27, 729 bytes, instead of 784",
        ),
        (idx(noise(7, 28, channels=1)[..., 0]), "has 7 images and 8 labels"),
        (
            b"\0\0\x08\x03" + b"\xff\xff\xff\xff" + struct.pack(">II", 28, 28),
            "instead of 3,367,254,359,296",
        ),
        (idx(np.zeros((0, 28, 28), dtype=np.uint8)), "has 16 bytes"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    fashion(tmp_path / "fashion_mnist", zipped=False)
    (tmp_path / "fashion_mnist" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(
        data
    )
    dataset = opened("fashion_mnist", tmp_path / "fashion_mnist")
    with pytest.raises(UsageError, match=re.escape(message) if "{" in message else message):
        _ = dataset.survey.splits["train"]
