"""Bytes of a dataset in an HDF5 file, read from several threads and in forked processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from transfer.datasets.readers.read_errors import error_text, read_range
from transfer.errors import BadImage
from transfer.storage.hdf5_tables import local_member
from transfer.utils.lazy_imports import h5py, np

if TYPE_CHECKING:
    import numpy

# Besides OSError, h5py raises any of these for invalid files.
UNREADABLE = (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError)
BLOCK = 1 << 20  # bytes that are read together where the file is chunked
BLOCKS_KEPT = 4


class EncodedBytes(Protocol):
    """The bytes of all images of a split, end to end."""

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`; BadImage or OSError where they are damaged."""
        ...


class _ContiguousBytes:
    """Bytes that lie in one piece in the file, h5py's default: read without HDF5."""

    def __init__(self, path: Path, offset: int):
        self._path, self._offset = path, offset

    def read(self, start: int, end: int) -> bytes:
        return read_range(self._path, self._offset + start, end - start)


class _ChunkedBytes:
    """Bytes in chunks, compressed or not.

    The last blocks are kept, because neighbors are read one after the other. There is no lock: a
    fork could leave it locked.
    """

    def __init__(self, path: Path, split: str, chunk: int):
        self._path, self._split = path, split
        self._length = chunk * max(1, BLOCK // chunk)
        self._kept: tuple[tuple[int, bytes], ...] = ()

    def read(self, start: int, end: int) -> bytes:
        first, last = start // self._length, (end - 1) // self._length
        data = b"".join(self._block(number) for number in range(first, last + 1))
        return data[start - first * self._length : end - first * self._length]

    def _block(self, number: int) -> bytes:
        for known, data in self._kept:
            if known == number:
                return data
        start = number * self._length
        try:
            with h5py.File(self._path, "r") as file:
                encoded = child_dataset(child_group(file, self._split), "jpeg")
                data = values(encoded, start, start + self._length).tobytes()
        except UNREADABLE as error:
            raise BadImage(error_text(error)) from error
        self._kept = ((number, data), *self._kept[: BLOCKS_KEPT - 1])
        return data


def encoded_bytes(path: Path, split: str, dataset: h5py.Dataset) -> EncodedBytes:
    """Return the reader for how a split's bytes are stored.

    Args:
        path: the file.
        split: the split's group.
        dataset: its bytes, in the open file.
    """
    offset = dataset.id.get_offset() if dataset.chunks is None else None
    if offset is not None and not dataset.file.userblock_size:
        return _ContiguousBytes(path, offset)
    return _ChunkedBytes(path, split, dataset.chunks[0] if dataset.chunks else BLOCK)


def child_group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return a group of the same file; ValueError for anything else."""
    member = local_member(parent, name)
    if not isinstance(member, h5py.Group):
        raise ValueError(f"'{name}' is not a group")
    return member


def child_dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    """Return a dataset of the same file; ValueError for anything else."""
    member = local_member(parent, name)
    if not isinstance(member, h5py.Dataset):
        raise ValueError(f"'{name}' is not a dataset")
    return member


def values(dataset: h5py.Dataset, start: int = 0, end: int | None = None) -> numpy.ndarray:
    """Return the entries `start` to `end` of a dataset."""
    return np.asarray(dataset[start:end])
