from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.datasets.conftest import encode, picture, split_of, write_h5
from transfer.artifacts import Images
from transfer.datasets.packed.decode import BadImage
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers import hdf5 as hdf5_module
from transfer.datasets.readers.base import TICK, Survey
from transfer.datasets.readers.hdf5 import Hdf5Source
from transfer.errors import TransferError, UsageError
from transfer.utils.stamp_cache import StampCache


@pytest.fixture
def look(tmp_path: Path) -> Callable[[Path], Survey]:
    return lambda path: Hdf5Source(path).survey(StampCache(tmp_path / "memory"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "set.h5"


def test_groups_are_splits_with_classes_and_size(
    file: Path, look: Callable[[Path], Survey]
) -> None:
    attributes = {"class_names": '["cat", "dog"]', "image_size": 24, "note": "for a test"}
    survey = look(write_h5(file, train=split_of(5), test=split_of(3), attributes=attributes))
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
    """The files that are opened by HDF5 from now on."""
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
    monkeypatch.setattr(hdf5_module, "BLOCK", 1000)
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


def crafted(**changes: Any) -> dict[str, Any]:
    return {
        name: values for name, values in {**split_of(4), **changes}.items() if values is not None
    }


RISING = split_of(4)["offsets"]
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
    file: Path, look: Callable[[Path], Survey], fault: str
) -> None:
    datasets, message = FAULTS[fault]
    with pytest.raises(UsageError, match=message) as told:
        look(write_h5(file, train=datasets))
    assert told.value.exit_code == 2
    assert str(file) in str(told.value)


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
    file: Path, look: Callable[[Path], Survey], attributes: dict[str, Any], message: str
) -> None:
    if isinstance(attributes.get("class_names"), str) and len(attributes["class_names"]) > 60_000:
        attributes = {
            "class_names": attributes["class_names"][:60_000]
        }  # what an attribute can hold
    with pytest.raises(UsageError, match=message):
        look(write_h5(file, train=split_of(2), attributes=attributes))


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


def no_hdf5(path: Path) -> None:
    path.write_bytes(b"not an HDF5 file at all")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    write_h5(path, train=split_of(4))
    path.write_bytes(path.read_bytes()[:-700])


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(split_of(2)))


def no_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["jpeg"] = split_of(2)["jpeg"]


def objects(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["train/offsets"], file["train/labels"] = RISING, [0] * 4
        file["train"].create_dataset("jpeg", (4,), dtype=h5py.vlen_dtype(np.uint8))


def references(path: Path) -> None:
    write_h5(path, train=crafted(labels=None))
    with h5py.File(path, "r+") as file:
        file["train"].create_dataset("labels", data=[file["train"].ref] * 4, dtype=h5py.ref_dtype)


def groups_for_datasets(path: Path) -> None:
    write_h5(path, train=crafted(labels=None))
    with h5py.File(path, "r+") as file:
        file.create_group("train/labels")


def external_group(path: Path) -> None:
    write_h5(path.with_name("secret.h5"), train=split_of(4))
    with h5py.File(path, "w") as file:
        file["train"] = h5py.ExternalLink("secret.h5", "/train")


def external_dataset(path: Path) -> None:
    write_h5(path.with_name("secret.h5"), train=split_of(4))
    write_h5(path, train=crafted(jpeg=None))
    with h5py.File(path, "r+") as file:
        file["train/jpeg"] = h5py.ExternalLink("secret.h5", "/train/jpeg")


def external_storage(path: Path) -> None:
    path.with_name("secret.bin").write_bytes(split_of(4)["jpeg"].tobytes())
    write_h5(path, train=crafted(jpeg=None))
    with h5py.File(path, "r+") as file:
        size = int(RISING[-1])
        file["train"].create_dataset(
            "jpeg", (size,), np.uint8, external=[(str(path.with_name("secret.bin")), 0, size)]
        )


def virtual_dataset(path: Path) -> None:
    write_h5(path.with_name("secret.h5"), train=split_of(4))
    write_h5(path, train=crafted(jpeg=None))
    layout = h5py.VirtualLayout((int(RISING[-1]),), np.uint8)
    layout[:] = h5py.VirtualSource(
        str(path.with_name("secret.h5")), "train/jpeg", (int(RISING[-1]),)
    )
    with h5py.File(path, "r+") as file:
        file["train"].create_virtual_dataset("jpeg", layout)


def soft_link(path: Path) -> None:
    write_h5(path, data=crafted(jpeg=None, labels=None), train=crafted(jpeg=None))
    with h5py.File(path, "r+") as file:
        file["data/bytes"] = split_of(4)["jpeg"]
        file["train/jpeg"] = h5py.SoftLink("/data/bytes")
        del file["data/offsets"]


def loop(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["train"] = h5py.SoftLink("/train")


def claims_a_terabyte(path: Path) -> None:
    write_h5(path, train=crafted(jpeg=None))
    with h5py.File(path, "r+") as file:
        file["train"].create_dataset("jpeg", (1 << 40,), np.uint8, chunks=(1 << 20,))


CRAFTED = {
    no_hdf5: "not a usable HDF5",
    empty: "not a usable HDF5",
    truncated: "truncated file",
    pickled: "not a usable HDF5",
    no_groups: "has no group with 'jpeg' and 'offsets'",
    objects: "'train/jpeg' must be 1-D uint8",
    references: "'train/labels' must be 1-D integers",
    groups_for_datasets: "'train/labels' must be 1-D integers",
    external_group: "'train' is a link to elsewhere",
    external_dataset: "'jpeg' is a link to elsewhere",
    external_storage: "'jpeg' keeps its data in other files",
    virtual_dataset: "'jpeg' keeps its data in other files",
    soft_link: "'jpeg' is a link to elsewhere",
    loop: "'train' is a link to elsewhere",
    claims_a_terabyte: "more than the file can hold",
}


@pytest.mark.parametrize("craft", CRAFTED, ids=lambda craft: craft.__name__)
def test_a_crafted_file_is_refused_and_no_other_file_is_opened(
    file: Path, look: Callable[[Path], Survey], craft: Callable[[Path], None]
) -> None:
    craft(file)
    others = [path for path in file.parent.iterdir() if path.is_file() and path != file]
    for path in others:
        os.utime(
            path, (1, 1)
        )  # older than its last change, so that reading it would move the time of access
    with pytest.raises(UsageError, match=CRAFTED[craft]) as told:
        look(file)
    assert told.value.exit_code == 2
    assert [path.stat().st_atime for path in others] == [1] * len(others)


def test_a_file_that_is_not_there_or_is_a_folder_is_told(
    file: Path, look: Callable[[Path], Survey]
) -> None:
    with pytest.raises(UsageError, match="No such file"):
        look(file)
    file.mkdir()
    with pytest.raises(UsageError, match="not a regular file"):
        look(file)


def test_damaged_bytes_of_the_file_give_a_message_or_a_set(
    file: Path,
    look: Callable[[Path], Survey],
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


def test_the_fingerprint_is_of_bytes_alone_and_differs_between_splits(
    file: Path, look: Callable[[Path], Survey]
) -> None:
    before = look(write_h5(file, train=split_of(3), test=split_of(3)))
    assert before.splits["train"].fingerprint != before.splits["test"].fingerprint
    copy = file.with_name("copy.h5")
    copy.write_bytes(file.read_bytes())
    os.utime(copy, (5, 5))
    assert look(copy) == before
    time.sleep(2 * TICK / 1e9)
    look(copy)
    status, data = copy.stat(), bytearray(copy.read_bytes())
    data[-100] ^= 1
    copy.write_bytes(data)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert look(copy).splits["train"].fingerprint != before.splits["train"].fingerprint


def test_a_file_is_read_once_and_then_remembered_without_h5py(
    file: Path, look: Callable[[Path], Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_h5(file, train=split_of(3), attributes={"image_size": 24})
    time.sleep(2 * TICK / 1e9)
    before = look(file)
    monkeypatch.setattr(Hdf5Source, "_look", lambda self: pytest.fail("read again"))
    monkeypatch.setattr(hdf5_module, "h5py", None)
    assert look(file) == before


def test_bad_pictures_are_listed_with_their_rows(
    file: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    encoded = [encode(picture(0)), b"", b"text", encode(picture(1))]
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    write_h5(file, train={"jpeg": data, "offsets": np.cumsum([0, *map(len, encoded)])})
    with pytest.raises(TransferError) as told:
        packed(plan(hdf5=file))
    assert str(told.value).splitlines()[1:3] == [
        "  train/1: empty file",
        "  train/2: not a JPEG, PNG or WebP picture",
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
