"""What the readers that a card instructs have in common: which splits are there, and what was read of their files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.datasets.readers.base import Listing, Split, Splits, Survey
from transfer.datasets.readers.file_tree import Tree, changes, digests
from transfer.errors import UsageError
from transfer.utils.stamp_cache import StampCache

if TYPE_CHECKING:
    from transfer.datasets.cards import Card


class ChangeTracker:
    """One look at a set: what is remembered of its files, and what has changed since."""

    def __init__(self, place: Path, memory: StampCache):
        self._place, self._memory = place, memory
        self.changes: list[str] = []

    def digests(self, tree: Tree, names: Iterable[str], below: str | None = None) -> dict[str, str]:
        """Name -> sha256 of every file; a file is read again when its stamp has changed.

        With `below`, `names` are all that is of interest in that folder: what was there before is told as gone.
        """
        groups: dict[
            str, list[str]
        ] = {}  # a memory for each folder at the top: they are not all asked for together
        for name in names:
            groups.setdefault(name.rpartition("/")[0].partition("/")[0], []).append(name)
        found: dict[str, str] = {}
        for top, some in groups.items():
            known = self._memory.recall(tree.path / top)
            now, wanted = {}, set(some)
            gone = {
                name
                for name in known
                if below is not None and name.startswith(below) and name not in wanted
            }
            rest = {
                name: facts
                for name, facts in known.items()
                if name not in wanted and name not in gone
            }
            now = digests(tree, some, known, partial(self._keep, tree.path / top, rest))
            before = {name: facts for name, facts in known.items() if name not in rest}
            if now != before:
                self._keep(tree.path / top, rest, now)
            self.changes += changes(before, now)
            found |= {name: facts[1] for name, facts in now.items()}
        return found

    def _keep(self, key: Path, rest: dict[str, list], facts: dict[str, list]) -> None:
        self._memory.keep(key, rest | facts)

    def checked(self, fingerprint: str, check: Callable[[], int]) -> int:
        """What `check` returned for the files of this fingerprint; it is called once for them."""
        known = self._memory.recall(self._place / "?")  # a name that no file of a set has
        if fingerprint not in known:
            known[fingerprint] = check()
            self._memory.keep(self._place / "?", known)
        return known[fingerprint]


class CardSource(ABC):
    """A set that a card describes, in the folder (or the archive) `place`."""

    def __init__(self, card: Card, place: Path):
        self.card, self.place = card, place

    @abstractmethod
    def find(self) -> dict[str, str]:
        """Look what is there: split -> what is missing of it, nothing where all is there."""

    @abstractmethod
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels, after `find`."""

    @abstractmethod
    def facts(self, name: str, look: ChangeTracker) -> Split:
        """What is known of a split that is there, after `find`."""

    @abstractmethod
    def images(self, name: str) -> Listing:
        """The images of a split that is there, after `find`."""

    def survey(self, memory: StampCache) -> Survey:
        """Splits (each looked at when asked for) and classes; UsageError says how to get what is not there."""
        missing = self._find()
        look = ChangeTracker(self.place, memory)

        def split(name: str) -> Split:
            return self.facts(name, look)

        there = [name for name, what in missing.items() if not what]
        absent = {
            name: self.card.absent(self.place, f"lacks its split '{name}': {what}")
            for name, what in missing.items()
            if what
        }
        return Survey(Splits(there, split), self.classes(), self.card.size, look.changes, absent)

    def listing(self, split: str) -> Listing:
        if self._find().get(split, "unknown"):
            raise UsageError(f"{self.place} has no split '{split}' any more")
        return self.images(split)

    def _find(self) -> dict[str, str]:
        missing = self.find() if self.place.exists() else {"": f"there is no {self.place}"}
        if all(missing.values()):
            what = f"image set '{self.card.name}' is not there: {next(iter(missing.values()))}"
            raise UsageError(self.card.absent(self.place, what))
        return missing


def rooted(tree: Tree, roots: Iterable[str]) -> Tree:
    """The first folder of `roots` that is there, as a tree; else the tree itself."""
    return next((tree.below(root) for root in roots if tree.is_folder(root)), tree)
