"""Reader `folder`: a folder of images, or of such folders for classes or splits.

See data/folder.yaml for the layouts. A zip or tar archive of such a folder works as well.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

from transfer.datasets.readers.base import SPLIT_NAMES, Listing, Split, Survey
from transfer.datasets.readers.file_digests import changes, digests
from transfer.datasets.readers.file_tree import Tree, image_names, open_tree, read_row
from transfer.datasets.readers.member_names import SUFFIXES
from transfer.errors import UsageError
from transfer.utils.stamp_cache import StampCache


class FolderSource:
    """Images whose ids are their paths below the folder, with '/' on every system.

    With `labeled=False` subfolders are not classes: a split holds every image below its folder.
    """

    def __init__(self, path: Path, labeled: bool = True):
        self.path, self.labeled = path, labeled

    def survey(self, memory: StampCache) -> Survey:
        """Return splits and classes; an image is read once, for the fingerprint.

        The fingerprint covers the paths, bytes and labels of a split's images.
        """
        tree = open_tree(self.path)
        images = self._images(tree)
        classes = self._all_classes(images)
        known = memory.recall(self.path)
        save = partial(memory.keep, self.path)
        facts = digests(tree, [name for names in images.values() for name in names], known, save)
        if facts != known:
            save(facts)
        splits = {}
        for split, names in images.items():
            labeled = self._classes(split, names) is not None
            # A new class in another split changes the labels of this one: all class names count.
            summary = hashlib.sha256(json.dumps(classes if labeled else None).encode())
            start = len(_prefix(split))
            for name in names:
                summary.update(f"{name[start:]}\0{facts[name][1]}\n".encode())
            splits[split] = Split(len(names), labeled, summary.hexdigest())
        return Survey(splits, classes, changes=changes(known, facts))

    def listing(self, split: str) -> Listing:
        """Return the images of a split, sorted by their paths."""
        tree = open_tree(self.path)
        images = self._images(tree)
        if split not in images:
            raise UsageError(f"folder {self.path}: split '{split}' no longer exists")
        ids, labels = images[split], None
        if self._classes(split, ids) is not None:
            label_of = {name: label for label, name in enumerate(self._all_classes(images))}
            labels = [label_of[_class(split, name)] for name in ids]
        return Listing(ids, labels, partial(read_row, tree, ids))

    def _images(self, tree: Tree) -> dict[str, list[str]]:
        """Return the sorted names of each split's images."""
        names = image_names(tree)
        folders = [split for split in SPLIT_NAMES if tree.is_folder(split)]
        if not folders:
            images = {"all": names}
        else:
            images = {
                split: [name for name in names if name.startswith(_prefix(split))]
                for split in folders
            }
            loose = next((name for name in names if name.partition("/")[0] not in folders), None)
            if loose is not None:
                raise UsageError(
                    f"folder {self.path} holds splits ({', '.join(folders)}) and images outside of "
                    f"them ({loose}, ...): move the images, or rename folders that are not splits"
                )
        for split, members in images.items():
            if not members:
                folder = self.path / _prefix(split)
                raise UsageError(f"folder {folder} holds no images ({', '.join(SUFFIXES)})")
        return images

    def _classes(self, split: str, names: list[str]) -> set[str] | None:
        """Return the names of a split's class folders; None for a split without labels."""
        if not self.labeled:
            return None
        loose = [name for name in names if "/" not in name[len(_prefix(split)) :]]
        if loose and len(loose) < len(names):
            raise UsageError(
                f"folder {self.path / _prefix(split)} holds both images ({loose[0]}, ...) and "
                "folders of images: a split has either classes or images without a folder; "
                "move the images, or write `labels: false`"
            )
        return None if loose else {_class(split, name) for name in names}

    def _all_classes(self, images: dict[str, list[str]]) -> list[str]:
        """Return the classes of all splits in the order of their labels."""
        classes: set[str] = set()
        for split, names in images.items():
            classes |= self._classes(split, names) or set()
        return sorted(classes)


def _prefix(split: str) -> str:
    return "" if split == "all" else f"{split}/"


def _class(split: str, name: str) -> str:
    return name[len(_prefix(split)) :].partition("/")[0]
