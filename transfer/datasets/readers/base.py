"""Sources: where the images of a set come from, before they are packed.

A source answers three questions: what is there (`survey`, quick, without heavy imports where a file has not changed
since it was last looked at), which images a split has (`listing`), and what one of them looks like (`Listing.read`).
`readers.py` lists those that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from transfer.errors import UsageError
from transfer.utils.stamp_cache import StampCache

if TYPE_CHECKING:
    import numpy

    from transfer.datasets.readers.annotations import Annotations

DEFAULT_SIZE = 96


@dataclass(frozen=True)
class Split:
    """What is known of a split without decoding it. `fingerprint` changes when a byte of an image or a label does."""

    count: int
    labeled: bool
    fingerprint: str


class Splits(Mapping[str, Split]):
    """Splits that are looked at when they are asked for: to score on a set's test images costs no look at the rest."""

    def __init__(self, names: Iterable[str], look: Callable[[str], Split]):
        self._names, self._look = list(names), look
        self._seen: dict[str, Split] = {}

    def __getitem__(self, name: str) -> Split:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._seen:
            self._seen[name] = self._look(name)
        return self._seen[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


# Where a set has no split of that name: the published test splits of many sets have no labels, and `val` is scored.
SPLIT_FALLBACKS = {
    "unlabeled": ["train", "trainval"],
    "train": ["trainval"],
    "trainval": ["train"],
    "test": ["val"],
}


@dataclass(frozen=True)
class Survey:
    """What is known of a set.

    `changes` tells what differs from the last time that it was looked at; it grows as splits are asked for. `absent`
    has the splits that the set should have: what to do to have them.
    """

    splits: Mapping[str, Split]
    classes: list[str] = field(default_factory=list)
    size: int | None = None
    changes: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def resolve_split(self, wanted: str, explicit: bool, labeled: bool = False) -> str:
        """The split to read: `wanted`, or, unless the file names it, what stands in for it (see INSTEAD).

        With `labeled`, one without labels is passed over where another has them. `unlabeled` may be the only split.
        """
        names = [wanted, *([] if explicit else SPLIT_FALLBACKS.get(wanted, []))]
        there = [name for name in names if name in self.splits]
        fitting = [name for name in there if explicit or not labeled or self.splits[name].labeled]
        lost = next((name for name in names if name in self.absent), None)
        # Unlabeled images that are only not there yet are no reason to learn from others.
        if fitting and not (wanted == "unlabeled" and lost == wanted):
            return fitting[0]
        if lost is not None:
            raise UsageError(self.absent[lost])
        if there:
            return there[0]
        if wanted == "unlabeled" and not explicit and len(self.splits) == 1:
            return next(iter(self.splits))
        raise UsageError(f"has no split '{wanted}' (it has: {', '.join(self.splits) or 'none'})")


@dataclass(frozen=True)
class Listing:
    """The images of a split in a fixed order.

    `read(row)` gives the encoded bytes of an image (JPEG, PNG, WebP), or its (H, W, 3) uint8 pixels where the set keeps
    pixels; BadImage or OSError says what is wrong with it. It may be called from several threads, and in a process
    that was forked: nothing that it opens is open before it is first called. `render`, where there is one, gives the
    (n, H, W, 3) uint8 pixels of several rows at once, and costs less an image.
    """

    ids: list[str]
    labels: list[int] | None
    read: Callable[[int], bytes | numpy.ndarray]
    annotations: Annotations | None = None
    render: Callable[[Sequence[int]], numpy.ndarray] | None = None


class Source(Protocol):
    """What a reader offers."""

    def survey(self, memory: StampCache) -> Survey: ...

    def listing(self, split: str) -> Listing: ...
