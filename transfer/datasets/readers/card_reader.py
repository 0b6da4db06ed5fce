"""The base of readers that depend on a card: complete splits, and facts about their files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.datasets.readers.base import Listing, Split, Splits, Survey
from transfer.datasets.readers.file_digests import changes, digests, unreadable
from transfer.datasets.readers.file_tree import Tree
from transfer.errors import UsageError
from transfer.utils.paths import broken_link
from transfer.utils.stamp_cache import StampCache

if TYPE_CHECKING:
    from transfer.datasets.cards import Card

CHECKS = "?"  # key of the results of checks in the memory; no file of a dataset has this name


class ChangeTracker:
    """Digests of a dataset's files during one survey, and what changed since the last survey."""

    def __init__(self, path: Path, memory: StampCache):
        self._path, self._memory = path, memory
        self.changes: list[str] = []
        self.unreadable: dict[str, str] = {}  # files that are left out, with the reason

    def digests(self, tree: Tree, names: Iterable[str], below: str | None = None) -> dict[str, str]:
        """Return the sha256 of each file; only files with a new stamp are read again.

        Args:
            tree: the dataset.
            names: the files.
            below: prefix of a folder of which `names` are all files: the files remembered of it
                that are not in `names` are reported as removed.
        """
        # Each top-level folder has its own memory, since splits are surveyed at different times.
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(name.rpartition("/")[0].partition("/")[0], []).append(name)
        result: dict[str, str] = {}
        for top, members in groups.items():
            result |= self._folder_digests(tree, tree.path / top, members, below)
        return result

    def _folder_digests(
        self, tree: Tree, key: Path, names: list[str], below: str | None
    ) -> dict[str, str]:
        known, requested = self._memory.recall(key), set(names)
        before, others = {}, {}
        for name, facts in known.items():
            surveyed = name in requested or (below is not None and name.startswith(below))
            (before if surveyed else others)[name] = facts
        now = digests(tree, names, known, partial(self._keep, key, others))
        if now != before:
            self._keep(key, others, now)
        self.changes += changes(before, now)
        self.unreadable |= unreadable(now)
        return {name: facts[1] for name, facts in now.items()}

    def _keep(self, key: Path, others: dict[str, list], facts: dict[str, list]) -> None:
        self._memory.keep(key, others | facts)

    def checked_count(self, fingerprint: str, check: Callable[[], int]) -> int:
        """Return the result of `check` for the files of a fingerprint; it runs once for them."""
        known = self._memory.recall(self._path / CHECKS)
        if fingerprint not in known:
            known[fingerprint] = check()
            self._memory.keep(self._path / CHECKS, known)
        return known[fingerprint]


class CardSource(ABC):
    """A dataset that a card describes, in the folder or archive at `path`.

    `missing_files` is called first; the other methods depend on its result.
    """

    def __init__(self, card: Card, path: Path, skip: bool = False):
        self.card, self.path, self.skip = card, path, skip

    @abstractmethod
    def missing_files(self) -> dict[str, str]:
        """Return for each split of the card which files are missing; "" for a complete split."""

    @abstractmethod
    def classes(self) -> list[str]:
        """Return the names of the classes in the order of their labels."""

    @abstractmethod
    def split_info(self, name: str, tracker: ChangeTracker) -> Split:
        """Return what is known of a complete split."""

    @abstractmethod
    def split_listing(self, name: str) -> Listing:
        """Return the images of a complete split."""

    def survey(self, memory: StampCache) -> Survey:
        """Return classes and splits; UsageError explains how to get a dataset that is missing."""
        missing = self._checked_missing()
        tracker = ChangeTracker(self.path, memory)
        complete = [name for name, problem in missing.items() if not problem]
        absent = {
            name: self.card.absent(self.path, f"lacks its split '{name}': {problem}")
            for name, problem in missing.items()
            if problem
        }
        splits = Splits(complete, partial(self._tracked_split, tracker))
        return Survey(splits, self.classes(), self.card.size, tracker.changes, absent)

    def _tracked_split(self, tracker: ChangeTracker, name: str) -> Split:
        before = len(tracker.changes)
        return replace(self.split_info(name, tracker), changes=tracker.changes[before:])

    def listing(self, split: str) -> Listing:
        """Return the images of a split; UsageError where its files are missing."""
        if self._checked_missing().get(split, "unknown"):
            raise UsageError(f"{self.path}: split '{split}' no longer exists")
        return self.split_listing(split)

    def _checked_missing(self) -> dict[str, str]:
        exists = self.path.exists()
        absent = f"{self.path} does not exist{broken_link(self.path)}"
        missing = self.missing_files() if exists else {"": absent}
        if all(missing.values()):
            problem = f"image set '{self.card.name}' is missing: {next(iter(missing.values()))}"
            raise UsageError(self.card.absent(self.path, problem))
        return missing


def descend(tree: Tree, roots: Iterable[str]) -> Tree:
    """Return the first of the folders `roots` that exists, as a tree; else the tree itself."""
    return next((tree.below(root) for root in roots if tree.is_folder(root)), tree)


def missing_text(subject: object, alternatives: Iterable[str]) -> str:
    """Return `SUBJECT has no A, nor B` for the missing files of each alternative layout."""
    return f"{subject} has no {', nor '.join(dict.fromkeys(alternatives))}"
