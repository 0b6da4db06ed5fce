"""Fashion-MNIST: idx files of images and labels."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.miniature import noise, opened
from tests.datasets.readers.record_files import (
    check,
    unpack,
)
from transfer.errors import UsageError


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
