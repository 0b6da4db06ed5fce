"""Files of pixels: binary records, idx files, pickled batches; plain, gzipped, or still in the archive they came in."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.datasets.card_schema import Block
from transfer.datasets.readers.member_names import tidy, unsafe
from transfer.datasets.readers.safe_pickle import UnsafePickle, read_plain_pickle
from transfer.errors import UsageError
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

LARGEST = 1 << 30  # bytes that are unpacked into memory
IDX_BYTES = 8  # code of unsigned bytes in an idx file


@dataclass
class Pixels:
    """The images of one file, (count, bytes an image): in memory, or in a plain file that is read row by row."""

    name: str
    count: int
    data: numpy.ndarray | None = None
    path: Path | None = None
    start: int = 0  # of the first image in the file
    step: int = 0  # from one image to the next
    length: int = 0  # of an image

    def read(self, row: int) -> numpy.ndarray:
        """(bytes an image,) uint8."""
        if self.data is not None:
            return self.data[row]
        from transfer.datasets.packed.decode import BadImage

        assert self.path is not None
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.start + row * self.step)
            data = file.read(self.length)
        if len(data) < self.length:
            raise BadImage(f"{self.path} has become shorter")
        return np.frombuffer(data, dtype=np.uint8)


def raw_file(
    name: str, content: Path | bytes, length: int, block: Block
) -> tuple[Pixels, numpy.ndarray | None]:
    """Pixels and labels of a file of records: `block.label_bytes`, then the pixels of one image."""
    step = block.label_bytes + length
    if isinstance(content, Path):
        size = content.stat().st_size
        pixels = Pixels(name, size // step, None, content, block.label_bytes, step, length)
    else:
        size = len(content)
        whole = np.frombuffer(content, dtype=np.uint8, count=size // step * step).reshape(-1, step)
        pixels = Pixels(name, len(whole), whole[:, block.label_bytes :])
    if not size or size % step:
        raise UsageError(
            f"{name} has {size:,} bytes, no whole number of images of {step:,}: it has been cut"
        )
    if not block.label_bytes:
        return pixels, None
    if isinstance(content, Path):
        whole = np.memmap(content, dtype=np.uint8, mode="r", shape=(pixels.count, step))
    return pixels, np.array(whole[:, block.label_byte], dtype=np.int64)


def idx_file(name: str, content: Path | bytes, length: int) -> Pixels:
    """The pixels (or, of length 1, the labels) of an idx file: a magic number, the shape, and bytes."""
    if isinstance(content, Path):
        with open(content, "rb") as file:
            head = file.read(64)
        size = content.stat().st_size
    else:
        head, size = content[:64], len(content)
    sides = head[3] if len(head) > 3 else 0
    if (
        head[:2] != b"\0\0"
        or head[2:3] != bytes([IDX_BYTES])
        or not 1 <= sides <= 4
        or len(head) < 4 + 4 * sides
    ):
        raise UsageError(f"{name} is not an idx file of bytes")
    shape = [int.from_bytes(head[4 + 4 * side : 8 + 4 * side], "big") for side in range(sides)]
    start, each = 4 + 4 * sides, 1
    for side in shape[1:]:
        each *= side
    if each != length:
        raise UsageError(
            f"{name} holds images of {' x '.join(map(str, shape[1:]))}, {each} bytes, instead of {length}"
        )
    if size != start + shape[0] * each or not shape[0]:
        raise UsageError(
            f"{name} has {size:,} bytes instead of {start + shape[0] * each:,}: it has been cut"
        )
    if isinstance(content, Path):
        return Pixels(name, shape[0], None, content, start, each, each)
    data = np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape[0], each)
    return Pixels(name, shape[0], data, start=start)


def pickled_file(
    name: str, content: Path | bytes, length: int, block: Block
) -> tuple[Pixels, numpy.ndarray | None]:
    """Pixels and labels of a batch of CIFAR's Python version (see plainpickle.py for why that is safe)."""
    try:
        found = read_plain_pickle(content.read_bytes() if isinstance(content, Path) else content)
    except UnsafePickle as error:
        raise UsageError(f"{name} cannot be used: {error}") from error
    pixels = found.get(block.keys["images"])
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.ndim < 2
        or pixels[:1].size != length
        or not len(pixels)
    ):
        raise UsageError(f"{name} has no images of {length:,} bytes under '{block.keys['images']}'")
    key = block.keys.get("labels")
    if key is None:
        return Pixels(name, len(pixels), pixels.reshape(len(pixels), -1)), None
    labels = found.get(key)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise UsageError(f"{name} has no list of whole numbers under '{key}'")
    if any(not -(1 << 62) < label < 1 << 62 for label in labels):
        raise UsageError(f"{name} has labels that are no classes under '{key}'")
    return Pixels(name, len(pixels), pixels.reshape(len(pixels), -1)), np.array(
        labels, dtype=np.int64
    )


def unpacked(path: Path) -> bytes:
    """The content of a .gz file; UsageError where it is damaged."""
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(
            f"{path} is not a whole .gz file: {' '.join(str(error).split())}"
        ) from error
    if len(data) > LARGEST:
        raise UsageError(f"{path} unpacks to more than {LARGEST >> 30} GiB: unpack it (gunzip)")
    return data


def from_archive(path: Path, wanted: Iterable[str], roots: Iterable[str]) -> dict[str, bytes]:
    """Files of a tar, compressed or not, by the names asked for; they may lie below one of `roots`.

    Read from its beginning to its end, into memory: for archives of a few files. UsageError where a file is missing,
    leads out of the archive or is a link, and where the archive is damaged or large.
    """
    names = {f"{root}/{name}" if root else name: name for name in wanted for root in (*roots, "")}
    found: dict[str, bytes] = {}
    left = LARGEST
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = tidy(member.name)
                if fault := unsafe(name):
                    raise UsageError(f"{path} holds {member.name!r}: {fault}")
                if name not in names:
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    raise UsageError(f"{path} holds {member.name!r}: it is no plain file")
                left -= member.size
                if left < 0:
                    raise UsageError(
                        f"{path} is too large to be read as it is: unpack it there (tar xf {path.name})"
                    )
                found[names[name]] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise UsageError(
            f"{path} is not a whole tar archive: {' '.join(str(error).split())}"
        ) from error
    if missing := [name for name in wanted if name not in found]:
        raise UsageError(f"{path} has no {missing[0]}")
    return found


def first_file(place: Path, name: str, roots: Iterable[str]) -> str | None:
    """The name below `place` of a file that may lie below one of `roots`, plain or as .gz."""
    for root in (*roots, ""):
        for form in ("", ".gz"):
            found = f"{root}/{name}{form}" if root else name + form
            if os.path.isfile(place / found):
                return found
    return None
