"""What every reader provides: a survey of a dataset's splits, and the images of one split.

A source has two methods. `survey` reports the splits with their fingerprints; it is quick and
imports no heavy library where no file changed since the last survey. `listing` lists the images of
one split, and `Listing.read` reads one of them. `reader_factory.py` chooses the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from transfer.datasets.readers.left_out import LeftOut
from transfer.errors import UsageError
from transfer.utils.stamp_cache import StampCache

if TYPE_CHECKING:
    import numpy

    from transfer.datasets.readers.annotations import Annotations

DEFAULT_SIZE = 96
MAX_CLASSES = 1_000_000  # the limit of integer labels where a dataset does not name its classes
SPLIT_NAMES = ("unlabeled", "train", "val", "test")  # folders and shards of these names are splits
# Other names of splits, in any case.
SPLIT_ALIASES = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}
AFFIXED = re.compile(r"(?:seg[-_ ])?([a-z]+?)(?:[-_ ]?set)?")


def split_of(name: str) -> str | None:
    """Return the split that a folder, shard or group of this name is: `Training` is `train`.

    So are `train_set`, `Training Set`, `trainset` and `seg_train`.
    """
    name = name.lower().replace("abell", "abel")  # in British spelling too
    if affixed := AFFIXED.fullmatch(name):
        name = affixed[1]
    return name if name in SPLIT_NAMES else SPLIT_ALIASES.get(name)


@dataclass(frozen=True)
class Split:
    """What is known of a split without decoding it.

    `fingerprint` changes with any byte of an image and with any label. `left_out` counts the files
    that are not taken, `unreadable` the images among them that `count` includes, `changes` lists
    what differs from the last survey, `hint` says how the layout may be meant; two splits are equal
    whatever these are.
    """

    count: int
    labeled: bool
    fingerprint: str
    left_out: LeftOut = field(default_factory=LeftOut, compare=False)
    changes: list[str] = field(default_factory=list, compare=False)
    unreadable: int = field(default=0, compare=False)
    hint: str = field(default="", compare=False)


class Splits(Mapping[str, Split]):
    """Splits that are surveyed on first access: the test split alone is read without the others."""

    def __init__(self, names: Iterable[str], survey_split: Callable[[str], Split]):
        self._names, self._survey_split = list(names), survey_split
        self._surveyed: dict[str, Split] = {}

    def __getitem__(self, name: str) -> Split:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._surveyed:
            self._surveyed[name] = self._survey_split(name)
        return self._surveyed[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


# Splits that replace a missing one. Many published test splits have no labels, so `val` is scored.
SPLIT_FALLBACKS = {
    "unlabeled": ["train", "trainval"],
    "train": ["trainval"],
    "trainval": ["train"],
    "test": ["val"],
}


@dataclass(frozen=True)
class Survey:
    """What is known of a dataset.

    `changes` lists what differs from the last survey; it grows as splits are accessed. `absent`
    maps the splits whose files are missing to a message that explains how to get them. `hint` says
    how the layout may be meant.
    """

    splits: Mapping[str, Split]
    classes: list[str] = field(default_factory=list)
    size: int | None = None
    changes: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    hint: str = ""

    def resolve_split(self, requested: str, explicit: bool, labeled: bool = False) -> str:
        """Return the split to read: the requested one, or its fallback (see SPLIT_FALLBACKS).

        UsageError where neither exists. A dataset's only split serves as `unlabeled`.

        Args:
            requested: name of the split.
            explicit: the pipeline file names the split, so no fallback replaces it.
            labeled: prefer a fallback with labels to a split without.
        """
        names = [requested, *([] if explicit else SPLIT_FALLBACKS.get(requested, []))]
        names = [self._present_name(name) for name in names]
        present = [name for name in names if name in self.splits]
        suitable = [
            name for name in present if explicit or not labeled or self.splits[name].labeled
        ]
        missing = next((name for name in names if name in self.absent), None)
        # Missing unlabeled images are an error, not a reason to train on another split.
        if suitable and not (requested == "unlabeled" and missing == requested):
            return suitable[0]
        if missing is not None:
            raise UsageError(self.absent[missing])
        if present:
            return present[0]
        if requested == "unlabeled" and not explicit and len(self.splits) == 1:
            return next(iter(self.splits))
        hint = f"; {self.hint}" if self.hint else ""
        present_names = ", ".join(self.splits) or "none"
        raise UsageError(f"has no split '{requested}' (it has: {present_names}){hint}")

    def _present_name(self, requested: str) -> str:
        """Return the name under which a split is present: `validation` for `val`."""
        if requested in self.splits or requested in self.absent:
            return requested
        split = split_of(requested)
        same = [name for name in self.splits if split is not None and split_of(name) == split]
        return same[0] if len(same) == 1 else requested


@dataclass(frozen=True)
class Listing:
    """The images of a split in a fixed order.

    `read(row)` returns the encoded bytes of an image (JPEG, PNG, ...), or its (H, W, 3) uint8
    pixels where the dataset stores pixels. BadImage or OSError explains why an image cannot be
    used. It may be called from several threads and in a forked process: it opens no file before its
    first call. `render`, where present, returns the (n, H, W, 3) uint8 pixels of several rows at
    once, at a lower cost per image.
    """

    ids: list[str]
    labels: list[int] | None
    read: Callable[[int], bytes | numpy.ndarray]
    annotations: Annotations | None = None
    render: Callable[[Sequence[int]], numpy.ndarray] | None = None


class Source(Protocol):
    """The interface of a reader."""

    def survey(self, memory: StampCache) -> Survey:
        """Return the splits and classes; `memory` keeps what was learned from unchanged files."""
        ...

    def listing(self, split: str) -> Listing:
        """Return the images of a split; UsageError where it does not exist."""
        ...
