"""Reader `hdf5`: the encoded bytes of images, end to end in one HDF5 file, a group a split (see data/hdf5.yaml)."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.errors import UsageError
from transfer.images.sources import (
    Listing,
    Split,
    Survey,
    SurveyMemory,
    stamp,
    survey_from_json,
    survey_to_json,
)
from transfer.lazy import h5py, np

if TYPE_CHECKING:
    import numpy


class Hdf5Source:
    """`path` is opened anew for each use: an open HDF5 file must not cross a fork or a thread."""

    def __init__(self, path: Path):
        self.path = path

    def survey(self, memory: SurveyMemory) -> Survey:
        """Splits, classes and sizes; the fingerprint is that of the whole file's bytes."""
        try:
            now = stamp(self.path.stat())
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read ({error.strerror})") from error
        known = memory.recall(self.path)
        if known.get("stamp") == now:
            return survey_from_json(known["survey"])
        survey = self._look()
        memory.keep(self.path, {"stamp": now, "survey": survey_to_json(survey)})
        return survey

    def _look(self) -> Survey:
        digest = hashlib.sha256()
        try:
            with open(self.path, "rb") as raw:
                while block := raw.read(1 << 20):
                    digest.update(block)
            with h5py.File(self.path, "r") as file:
                splits = {}
                for name, group in file.items():
                    if not isinstance(group, h5py.Group) or not {"jpeg", "offsets"} <= set(group):
                        continue
                    self._check(name, group)
                    count = group["offsets"].shape[0] - 1
                    splits[name] = Split(count, "labels" in group, f"{digest.hexdigest()}/{name}")
                classes = [str(one) for one in json.loads(file.attrs.get("class_names", "[]"))]
                size = int(file.attrs["image_size"]) if "image_size" in file.attrs else None
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{self.path} is not a readable HDF5 image set ({error})") from error
        if not splits:
            raise UsageError(f"{self.path} has no group with 'jpeg' and 'offsets' (see `transfer list data hdf5`)")
        return Survey(splits, classes, size)

    def _check(self, name: str, group: h5py.Group) -> None:
        offsets = group["offsets"][:]
        if offsets.ndim != 1 or len(offsets) < 1 or group["jpeg"].ndim != 1 or group["jpeg"].dtype != np.uint8:
            raise UsageError(f"{self.path}: {name}: 'jpeg' must be 1-D uint8 and 'offsets' 1-D with N + 1 entries")
        if offsets[0] < 0 or offsets[-1] > group["jpeg"].shape[0] or (np.diff(offsets) < 0).any():
            raise UsageError(f"{self.path}: {name}: 'offsets' must rise and stay within 'jpeg'")
        if "labels" in group and group["labels"].shape != (len(offsets) - 1,):
            raise UsageError(f"{self.path}: {name}: {group['labels'].shape} labels for {len(offsets) - 1} images")
        if "labels" in group and len(offsets) > 1 and group["labels"][:].min() < 0:
            raise UsageError(f"{self.path}: {name}: a label is negative")

    def listing(self, split: str) -> Listing:
        from transfer.images.decode import decode, squares

        with h5py.File(self.path, "r") as file:
            group = file[split]
            offsets = group["offsets"][:]
            labels = group["labels"][:].tolist() if "labels" in group else None
            # Compressed bytes are small beside the packed set, and one sequential read beats N small ones.
            data: numpy.ndarray = group["jpeg"][:]
        ids = [f"{split}/{row}" for row in range(len(offsets) - 1)]
        return Listing(
            ids, labels, partial(squares, lambda row: decode(data[offsets[row] : offsets[row + 1]].tobytes()))
        )
