"""Reader `folder`: a folder of pictures; flat, a folder a class, or a folder a split (see data/folder.yaml).

A zip or tar archive of such a folder does as well.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

from transfer.datasets.readers.base import Listing, Split, Survey
from transfer.datasets.readers.file_tree import Tree, changes, digests, open_tree, pictures
from transfer.datasets.readers.member_names import SUFFIXES
from transfer.errors import UsageError
from transfer.utils.stamp_cache import StampCache

SPLITS = ("unlabeled", "train", "val", "test")


class FolderSource:
    """`labeled=False` takes every picture below a split's folder, whatever its subfolders are called.

    Pictures go by their paths from the folder, with '/' on every system.
    """

    def __init__(self, path: Path, labeled: bool = True):
        self.path, self.labeled = path, labeled

    def survey(self, memory: StampCache) -> Survey:
        """Splits and classes. The fingerprint is of the pictures' paths, bytes and labels; bytes are read once."""
        tree = open_tree(self.path)
        found = self._splits(tree)
        classes = self._all_classes(found)
        known = memory.recall(self.path)
        save = partial(memory.keep, self.path)
        facts = digests(tree, [name for names in found.values() for name in names], known, save)
        if facts != known:
            save(facts)
        splits = {}
        for split, names in found.items():
            labeled = self._classes(split, names) is not None
            # A class more in another split moves the labels of this one, so all names count.
            summary = hashlib.sha256(json.dumps(classes if labeled else None).encode())
            start = len(_prefix(split))
            for name in names:
                summary.update(f"{name[start:]}\0{facts[name][1]}\n".encode())
            splits[split] = Split(len(names), labeled, summary.hexdigest())
        return Survey(splits, classes, changes=changes(known, facts))

    def listing(self, split: str) -> Listing:
        tree = open_tree(self.path)
        found = self._splits(tree)
        if split not in found:
            raise UsageError(f"folder {self.path} has no split '{split}' any more")
        ids, labels = found[split], None
        if self._classes(split, ids) is not None:
            number = {name: label for label, name in enumerate(self._all_classes(found))}
            labels = [number[_class(split, name)] for name in ids]
        return Listing(ids, labels, partial(_read, tree, ids))

    def _splits(self, tree: Tree) -> dict[str, list[str]]:
        """Split -> its pictures, sorted."""
        names = pictures(tree)
        found = [split for split in SPLITS if tree.is_folder(split)]
        if not found:
            splits = {"all": names}
        else:
            splits = {
                split: [name for name in names if name.startswith(_prefix(split))]
                for split in found
            }
            loose = next((name for name in names if name.partition("/")[0] not in found), None)
            if loose is not None:
                raise UsageError(
                    f"folder {self.path} holds splits ({', '.join(found)}) and pictures that belong to none of them "
                    f"({loose}, ...): move those, or rename what is no split"
                )
        for split, names in splits.items():
            if not names:
                raise UsageError(
                    f"folder {self.path / _prefix(split)} holds no pictures ({', '.join(SUFFIXES)})"
                )
        return splits

    def _classes(self, split: str, names: list[str]) -> set[str] | None:
        """Names of the class folders; None for a flat split."""
        if not self.labeled:
            return None
        loose = [name for name in names if "/" not in name[len(_prefix(split)) :]]
        if loose and len(loose) < len(names):
            raise UsageError(
                f"folder {self.path / _prefix(split)} holds both pictures ({loose[0]}, ...) and folders of pictures; "
                "a flat set has no folders, a set with classes has nothing else: move them, or say `labels: false`"
            )
        return None if loose else {_class(split, name) for name in names}

    def _all_classes(self, found: dict[str, list[str]]) -> list[str]:
        """The classes of all splits, in the order of their labels."""
        return sorted(
            {one for split, names in found.items() for one in self._classes(split, names) or ()}
        )


def _prefix(split: str) -> str:
    return "" if split == "all" else f"{split}/"


def _class(split: str, name: str) -> str:
    return name[len(_prefix(split)) :].partition("/")[0]


def _read(tree: Tree, ids: list[str], row: int) -> bytes:
    return tree.read(ids[row])
