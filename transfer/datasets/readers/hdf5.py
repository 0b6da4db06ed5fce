"""Reader `hdf5`: the encoded bytes of images, end to end in one HDF5 file, a group for each split.

See data/hdf5.yaml for the layout. `hdf5_bytes.py` reads the bytes of an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transfer.datasets.readers.base import MAX_CLASSES, Listing, Split, Survey
from transfer.datasets.readers.hdf5_bytes import (
    UNREADABLE,
    EncodedBytes,
    child_dataset,
    child_group,
    encoded_bytes,
    values,
)
from transfer.datasets.readers.left_out import LeftOut
from transfer.datasets.readers.member_names import nfc
from transfer.datasets.readers.read_errors import report_errors
from transfer.datasets.readers.split_folders import unique_splits
from transfer.errors import UsageError
from transfer.storage.hdf5_tables import local_member
from transfer.utils.files import file_stamp, hash_file
from transfer.utils.formatting import plural
from transfer.utils.lazy_imports import h5py, np
from transfer.utils.stamp_cache import StampCache, settled_stamp

if TYPE_CHECKING:
    import numpy

COLUMNS = ("jpeg", "offsets", "labels")
# No image format compresses further. A dataset that claims to is made to fill the memory.
MAX_RATIO = 1100


class Hdf5Source:
    """Images whose ids are their split and their row: train/17.

    The file is opened for each use, because an open HDF5 file must not cross a fork.
    """

    def __init__(self, path: Path):
        self.path = path

    def survey(self, memory: StampCache) -> Survey:
        """Return splits, classes and image size; the fingerprint is that of the whole file."""
        with report_errors(self.path):
            now = file_stamp(self.path)
            known = memory.recall(self.path)
            if known.get("stamp") != now or "others" not in known:
                known = {"stamp": settled_stamp(now), **self._read_facts()}
                memory.keep(self.path, known)
        others = LeftOut(known["others"])
        splits = {name: Split(**facts, left_out=others) for name, facts in known["splits"].items()}
        return Survey(splits, known["classes"], known["size"])

    def _read_facts(self) -> dict[str, Any]:
        digest, _ = hash_file(self.path)
        splits, others = {}, LeftOut()
        with (
            report_errors(self.path, "not a usable HDF5 image set", UNREADABLE),
            h5py.File(self.path, "r") as file,
        ):
            size, written = _attributes(file)
            classes = [nfc(name) for name in written]
            if len({*classes}) < len({*written}):
                raise ValueError("'class_names' has two names that differ in their Unicode form")
            form = "" if classes == written else "/nfc"
            for name in cast(Iterable[str], file):
                group = local_member(file, name)
                if isinstance(group, h5py.Group) and set(COLUMNS) & set(group):
                    splits[name] = {
                        "count": self._checked_count(name, group, len(classes)),
                        "labeled": "labels" in set(group),
                        "fingerprint": f"{digest}/{name}{form}",
                    }
                else:
                    others.add("group" if isinstance(group, h5py.Group) else "dataset")
        unique_splits(self.path, splits)
        if not splits:
            problem = "has no group with 'jpeg' and 'offsets'"
            raise UsageError(f"{self.path} {problem} (see `transfer list data hdf5`)")
        return {"splits": splits, "classes": classes, "size": size, "others": others.counts}

    def _checked_count(self, split: str, group: h5py.Group, classes: int) -> int:
        """Return the number of images; ValueError where the datasets contradict each other."""
        columns = self._columns(split, group)
        offsets = values(columns["offsets"])
        if not len(offsets):
            raise ValueError(f"'{split}/offsets' must have one entry more than there are images")
        encoded_length = len(columns["jpeg"])
        falls = (offsets[1:] < offsets[:-1]).any()
        if offsets[0] < 0 or offsets[-1] > encoded_length or falls:
            raise ValueError(f"'{split}/offsets' must rise and stay within 'jpeg'")
        count = len(offsets) - 1
        if "labels" in columns:
            _check_labels(split, values(columns["labels"]), count, classes or MAX_CLASSES)
        return count

    def _columns(self, split: str, group: h5py.Group) -> dict[str, h5py.Dataset]:
        """Return the datasets of a split; ValueError for a missing one or a wrong type or size."""
        present = {name: local_member(group, name) for name in COLUMNS if name in set(group)}
        for name in ("jpeg", "offsets"):
            if name not in present:
                raise ValueError(f"'{split}' has no '{name}'")
        columns = {}
        for name, column in present.items():
            expected = "1-D uint8" if name == "jpeg" else "1-D integers"
            if not isinstance(column, h5py.Dataset) or len(column.shape or ()) != 1:
                raise ValueError(f"'{split}/{name}' must be {expected}")
            is_bytes = column.dtype.kind == "u" and column.dtype.itemsize == 1
            if not (is_bytes if name == "jpeg" else column.dtype.kind in "iu"):
                raise ValueError(f"'{split}/{name}' must be {expected}")
            if column.nbytes > MAX_RATIO * self.path.stat().st_size:
                raise ValueError(
                    f"'{split}/{name}' claims {column.nbytes:,} bytes, more than the file can hold"
                )
            columns[name] = column
        return columns

    def listing(self, split: str) -> Listing:
        """Return the images of a split, in the order of the file."""
        with report_errors(self.path, kinds=UNREADABLE), h5py.File(self.path, "r") as file:
            group = child_group(file, split)
            offsets = values(child_dataset(group, "offsets")).astype(np.int64)
            labels = None
            if "labels" in set(group):
                labels = values(child_dataset(group, "labels")).tolist()
            encoded = encoded_bytes(self.path, split, child_dataset(group, "jpeg"))
        ids = [f"{split}/{row}" for row in range(len(offsets) - 1)]
        return Listing(ids, labels, partial(_read_image, encoded, offsets))


def _attributes(file: h5py.File) -> tuple[int | None, list[str]]:
    """Return the image size and the class names of a file; ValueError for invalid ones."""
    attributes: Mapping[str, Any] = cast(Any, file.attrs)
    size = int(attributes["image_size"]) if "image_size" in attributes else None
    if size is not None and size < 1:
        raise ValueError(f"'image_size' is {size}")
    classes = json.loads(attributes.get("class_names", "[]"))
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("'class_names' must be a JSON list of names")
    return size, classes


def _check_labels(split: str, labels: numpy.ndarray, count: int, limit: int) -> None:
    if len(labels) != count:
        raise ValueError(
            f"'{split}' has {plural(len(labels), 'label')} for {plural(count, 'image')}"
        )
    if count and (labels.min() < 0 or labels.max() >= limit):
        raise ValueError(
            f"'{split}/labels' go from {labels.min()} to {labels.max()}, "
            f"outside of 0 to {limit - 1}"
        )


def _read_image(encoded: EncodedBytes, offsets: numpy.ndarray, row: int) -> bytes:
    return encoded.read(int(offsets[row]), int(offsets[row + 1]))
