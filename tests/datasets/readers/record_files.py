"""Files of pixels as they are published: STL-10 and CIFAR."""

from __future__ import annotations

import io
import multiprocessing
import os
import struct
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.datasets.miniature import noise, pixels


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
