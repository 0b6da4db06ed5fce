"""Reader `hdf5`: the encoded bytes of images, end to end in one HDF5 file, a group a split (see data/hdf5.yaml)."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.datasets.readers.base import Listing, Split, Survey
from transfer.errors import UsageError
from transfer.storage.hdf5_tables import local_member
from transfer.utils.files import file_stamp, hash_file
from transfer.utils.lazy_imports import h5py, np
from transfer.utils.stamp_cache import StampCache, settled_stamp

if TYPE_CHECKING:
    import numpy

COLUMNS = ("jpeg", "offsets", "labels")
MAX_CLASSES = 1_000_000
BLOCK = 1 << 20  # bytes that are read at once where the file keeps chunks
BLOCKS_KEPT = 4
MAX_RATIO = 1100  # no image compresses further: a dataset that claims to holds nothing, or is made to fill the memory
# Besides OSError, h5py raises any of these for files that make no sense.
UNREADABLE = (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError)


class Hdf5Source:
    """`path` is opened anew for each use: an open HDF5 file must not cross a fork."""

    def __init__(self, path: Path):
        self.path = path

    def survey(self, memory: StampCache) -> Survey:
        """Splits, classes and sizes; the fingerprint is that of the whole file's bytes."""
        try:
            now = file_stamp(self.path)
            known = memory.recall(self.path)
            if known.get("stamp") != now:
                known = {"stamp": settled_stamp(now), **self._look()}
                memory.keep(self.path, known)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read ({error.strerror})") from error
        splits = {name: Split(**facts) for name, facts in known["splits"].items()}
        return Survey(splits, known["classes"], known["size"])

    def _look(self) -> dict[str, Any]:
        digest, _ = hash_file(self.path)
        try:
            with h5py.File(self.path, "r") as file:
                size = int(file.attrs["image_size"]) if "image_size" in file.attrs else None
                if size is not None and size < 1:
                    raise ValueError(f"'image_size' is {size}")
                classes = json.loads(file.attrs.get("class_names", "[]"))
                if not isinstance(classes, list) or not all(
                    isinstance(name, str) for name in classes
                ):
                    raise ValueError("'class_names' must be a JSON list of names")
                splits = {}
                for name in file:
                    group = local_member(file, name)
                    if isinstance(group, h5py.Group) and set(COLUMNS) & set(group):
                        count = self._check(name, group, len(classes))
                        splits[name] = {
                            "count": count,
                            "labeled": "labels" in set(group),
                            "fingerprint": f"{digest}/{name}",
                        }
        except UNREADABLE as error:
            raise UsageError(
                f"{self.path} is not a usable HDF5 image set: {_one_line(error)}"
            ) from error
        if not splits:
            raise UsageError(
                f"{self.path} has no group with 'jpeg' and 'offsets' (see `transfer list data hdf5`)"
            )
        return {"splits": splits, "classes": classes, "size": size}

    def _check(self, split: str, group: h5py.Group, classes: int) -> int:
        """The number of images; ValueError where the datasets do not fit together."""
        found = {name: local_member(group, name) for name in COLUMNS if name in set(group)}
        for name in ("jpeg", "offsets"):
            if name not in found:
                raise ValueError(f"'{split}' has no '{name}'")
        for name, data in found.items():
            kinds = "u" if name == "jpeg" else "iu"
            wanted = "1-D uint8" if name == "jpeg" else "1-D integers"
            fits = (
                isinstance(data, h5py.Dataset)
                and len(data.shape or ()) == 1
                and data.dtype.kind in kinds
            )
            if not fits or (name == "jpeg" and data.dtype.itemsize != 1):
                raise ValueError(f"'{split}/{name}' must be {wanted}")
            if data.nbytes > MAX_RATIO * self.path.stat().st_size:
                raise ValueError(
                    f"'{split}/{name}' claims {data.nbytes:,} bytes, more than the file can hold"
                )
        offsets = found["offsets"][:]
        if not len(offsets):
            raise ValueError(f"'{split}/offsets' must have one entry more than there are images")
        if offsets[0] < 0 or offsets[-1] > len(found["jpeg"]) or (offsets[1:] < offsets[:-1]).any():
            raise ValueError(f"'{split}/offsets' must rise and stay within 'jpeg'")
        count = len(offsets) - 1
        if "labels" in found:
            labels = found["labels"][:]
            if len(labels) != count:
                raise ValueError(f"'{split}' has {len(labels)} labels for {count} images")
            if count and (labels.min() < 0 or labels.max() >= (classes or MAX_CLASSES)):
                raise ValueError(
                    f"'{split}/labels' go from {labels.min()} to {labels.max()}, "
                    f"outside of 0 to {(classes or MAX_CLASSES) - 1}"
                )
        return count

    def listing(self, split: str) -> Listing:
        try:
            with h5py.File(self.path, "r") as file:
                group = local_member(file, split)
                offsets = local_member(group, "offsets")[:].astype(np.int64)
                labels = (
                    local_member(group, "labels")[:].tolist() if "labels" in set(group) else None
                )
                encoded = _encoded(self.path, split, local_member(group, "jpeg"))
        except UNREADABLE as error:
            raise UsageError(f"{self.path} cannot be read: {_one_line(error)}") from error
        ids = [f"{split}/{row}" for row in range(len(offsets) - 1)]
        return Listing(ids, labels, partial(_read, encoded, offsets))


def _read(encoded: _Plain | _Chunked, offsets: numpy.ndarray, row: int) -> bytes:
    return encoded.read(int(offsets[row]), int(offsets[row + 1]))


class _Plain:
    """Bytes that lie in the file in one piece, as h5py writes them unless told otherwise: read without HDF5."""

    def __init__(self, path: Path, start: int):
        self._path, self._start = path, start

    def read(self, start: int, end: int) -> bytes:
        from transfer.datasets.packed.decode import BadImage

        with open(self._path, "rb") as file:
            file.seek(self._start + start)
            data = file.read(end - start)
        if len(data) < end - start:
            raise BadImage(f"{self._path} has become shorter")
        return data


class _Chunked:
    """Bytes in chunks, compressed or not. The last ones are kept, as neighbors are read one after the other; without
    a lock, which a fork could leave locked."""

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
        try:
            with h5py.File(self._path, "r") as file:
                encoded = local_member(local_member(file, self._split), "jpeg")
                data = encoded[number * self._length : (number + 1) * self._length].tobytes()
        except UNREADABLE as error:
            from transfer.datasets.packed.decode import BadImage

            raise BadImage(_one_line(error)) from error
        self._kept = ((number, data), *self._kept[: BLOCKS_KEPT - 1])
        return data


def _encoded(path: Path, split: str, data: h5py.Dataset) -> _Plain | _Chunked:
    start = data.id.get_offset() if data.chunks is None else None
    if start is not None and not data.file.userblock_size:
        return _Plain(path, start)
    return _Chunked(path, split, data.chunks[0] if data.chunks else BLOCK)


def _one_line(error: Exception) -> str:
    return " ".join(
        str(error.args[0] if isinstance(error, KeyError) and error.args else error).split()
    )
