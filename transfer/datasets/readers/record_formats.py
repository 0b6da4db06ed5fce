"""Formats of files of pixels: binary records, idx files and pickled batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.datasets.card_schema import Block
from transfer.datasets.readers.read_errors import read_range
from transfer.datasets.readers.safe_pickle import read_plain_pickle
from transfer.errors import UsageError
from transfer.utils.lazy_imports import np
from transfer.utils.pickle_interpreter import UnsafePickle

if TYPE_CHECKING:
    import numpy

IDX_BYTES = 8  # code of unsigned bytes in an idx file
MAX_IDX_SIDES = 4
MAX_LABEL = 1 << 62


@dataclass
class RecordFile:
    """The images of one file: in memory, or in a plain file that is read row by row.

    Of a file in memory `data` holds (count, bytes of an image); of another, `path` and the next
    three fields, in bytes, say where its images lie.
    """

    name: str
    count: int
    data: numpy.ndarray | None = None
    path: Path | None = None
    start: int = 0  # offset of the first image
    step: int = 0  # from one image to the next
    length: int = 0  # of an image

    def read(self, row: int) -> numpy.ndarray:
        """Return the (bytes of an image,) uint8 of a row."""
        if self.data is not None:
            return self.data[row]
        assert self.path is not None
        data = read_range(self.path, self.start + row * self.step, self.length)
        return np.frombuffer(data, dtype=np.uint8)


def read_bytes(content: Path | bytes) -> numpy.ndarray:
    """Return a whole file as uint8."""
    data = content.read_bytes() if isinstance(content, Path) else content
    return np.frombuffer(data, dtype=np.uint8)


def read_raw(
    name: str, content: Path | bytes, length: int, block: Block
) -> tuple[RecordFile, numpy.ndarray | None]:
    """Return images and labels of binary records: `block.label_bytes`, then an image's pixels.

    Args:
        name: the file's name, for messages.
        content: its path, or its bytes.
        length: bytes of an image.
        block: the card's description of the file.
    """
    step = block.label_bytes + length
    size = content.stat().st_size if isinstance(content, Path) else len(content)
    if not size or size % step:
        raise UsageError(
            f"{name} has {size:,} bytes, not a whole number of images of {step:,}: it is truncated"
        )
    count = size // step
    if isinstance(content, Path):
        file = RecordFile(name, count, None, content, block.label_bytes, step, length)
        if not block.label_bytes:
            return file, None
        records = np.memmap(content, dtype=np.uint8, mode="r", shape=(count, step))
    else:
        records = np.frombuffer(content, dtype=np.uint8).reshape(count, step)
        file = RecordFile(name, count, records[:, block.label_bytes :])
        if not block.label_bytes:
            return file, None
    return file, np.array(records[:, block.label_byte], dtype=np.int64)


def read_idx(name: str, content: Path | bytes, length: int) -> RecordFile:
    """Return the images of an idx file: a magic number, the shape, and unsigned bytes.

    Args:
        name: the file's name, for messages.
        content: its path, or its bytes.
        length: bytes of an image; 1 for a file of labels.
    """
    if isinstance(content, Path):
        with open(content, "rb") as file:
            head = file.read(64)
        size = content.stat().st_size
    else:
        head, size = content[:64], len(content)
    shape = _idx_shape(name, head)
    start, image_bytes = 4 + 4 * len(shape), math.prod(shape[1:])
    if image_bytes != length:
        sides = " x ".join(map(str, shape[1:]))
        raise UsageError(
            f"{name} holds images of {sides}, {image_bytes} bytes, instead of {length}"
        )
    expected = start + shape[0] * image_bytes
    if size != expected or not shape[0]:
        raise UsageError(f"{name} has {size:,} bytes instead of {expected:,}: it is truncated")
    if isinstance(content, Path):
        return RecordFile(name, shape[0], None, content, start, image_bytes, image_bytes)
    data = np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape[0], image_bytes)
    return RecordFile(name, shape[0], data, start=start)


def _idx_shape(name: str, head: bytes) -> list[int]:
    sides = head[3] if len(head) > 3 else 0
    is_bytes = head[:3] == bytes([0, 0, IDX_BYTES])
    if not is_bytes or not 1 <= sides <= MAX_IDX_SIDES or len(head) < 4 + 4 * sides:
        raise UsageError(f"{name} is not an idx file of bytes")
    return [int.from_bytes(head[4 + 4 * side : 8 + 4 * side], "big") for side in range(sides)]


def read_pickled(
    name: str, content: Path | bytes, length: int, block: Block
) -> tuple[RecordFile, numpy.ndarray | None]:
    """Return images and labels of a batch of CIFAR's Python version.

    `safe_pickle.py` explains why reading it runs no code of the file.

    Args:
        name: the file's name, for messages.
        content: its path, or its bytes.
        length: bytes of an image.
        block: the card's description of the file.
    """
    try:
        batch = read_plain_pickle(content.read_bytes() if isinstance(content, Path) else content)
    except UnsafePickle as error:
        raise UsageError(f"{name}: cannot be used ({error})") from error
    key = block.keys["images"]
    images = batch.get(key)
    if (
        not isinstance(images, np.ndarray)
        or images.ndim < 2
        or not len(images)
        or images[0].size != length
    ):
        raise UsageError(f"{name} has no images of {length:,} bytes under '{key}'")
    file = RecordFile(name, len(images), images.reshape(len(images), -1))
    key = block.keys.get("labels")
    if key is None:
        return file, None
    labels = batch.get(key)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise UsageError(f"{name} has no list of whole numbers under '{key}'")
    if any(not -MAX_LABEL < label < MAX_LABEL for label in labels):
        raise UsageError(f"{name} has labels out of range under '{key}'")
    return file, np.array(labels, dtype=np.int64)


def read_row_numbers(name: str, content: Path | bytes, line: int) -> numpy.ndarray:
    """Return the distinct row numbers in one line, counted from 0, of a text file.

    Args:
        name: the file's name, for messages.
        content: its path, or its bytes.
        line: the line.
    """
    lines = read_bytes(content).tobytes().decode("ascii", "replace").splitlines()
    where = f"{name}: line {line + 1}"
    try:
        rows = np.array([int(word) for word in lines[line].split()], dtype=np.int64)
    except (IndexError, ValueError, OverflowError) as error:
        raise UsageError(f"{where} is not a list of rows ({error})") from error
    if not len(rows):
        raise UsageError(f"{where} names no rows")
    if len(np.unique(rows)) != len(rows):
        raise UsageError(f"{where} names a row twice")
    return rows
