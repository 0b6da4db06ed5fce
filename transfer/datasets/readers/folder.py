"""Reader `folder`: a folder of images, or of such folders for classes or splits.

See data/folder.yaml for the layouts. A zip or tar archive of such a folder works as well.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transfer.datasets.readers.base import SPLIT_NAMES, Listing, Split, Survey
from transfer.datasets.readers.file_digests import changes, digests, unreadable
from transfer.datasets.readers.file_tree import ImageFiles, Tree, find_images, open_tree, read_row
from transfer.datasets.readers.left_out import Entry, LeftOut, lost_classes
from transfer.datasets.readers.member_names import nfc
from transfer.datasets.readers.split_folders import (
    hint_of_backslashes,
    hint_of_splits_below,
    split_folders,
)
from transfer.errors import UsageError
from transfer.utils.stamp_cache import StampCache


@dataclass(frozen=True)
class SplitFiles:
    """The images of a split and its files that are not taken, by their names in the tree.

    `prefix` is the split's folder with a slash, "" where the whole folder is one split.
    """

    prefix: str
    names: list[str]
    others: list[Entry]

    def class_of(self, name: str) -> str:
        """Return the class of a file that lies in a class folder."""
        return nfc(name[len(self.prefix) :].partition("/")[0])

    def is_loose(self, name: str) -> bool:
        """Whether a file lies in the split's folder itself."""
        return "/" not in name[len(self.prefix) :]


class FolderSource:
    """Images whose ids are their paths below the folder, with '/' on every system.

    With `labeled=False` subfolders are not classes: a split holds every image below its folder.
    With `skip=True` files that cannot be read are left out, not refused.
    """

    def __init__(self, path: Path, labeled: bool = True, skip: bool = False):
        self.path, self.labeled, self.skip = path, labeled, skip

    def survey(self, memory: StampCache) -> Survey:
        """Return splits and classes; an image is read once, for the fingerprint.

        The fingerprint covers the paths, bytes and labels of a split's images.
        """
        tree = open_tree(self.path, self.skip)
        files = self._split_files(tree)
        classes = self._all_classes(files)
        known = memory.recall(self.path)
        save = partial(memory.keep, self.path)
        facts = digests(tree, [name for part in files.values() for name in part.names], known, save)
        has_changed = facts != known
        if has_changed:
            save(facts)
        splits, hint = {}, self._hint(files)
        for split, part in files.items():
            labeled = self._classes(part) is not None
            # A new class in another split changes the labels of this one: all class names count.
            summary = hashlib.sha256(json.dumps(classes if labeled else None).encode())
            start = len(part.prefix)
            for name in part.names:
                summary.update(f"{name[start:]}\0{facts[name][1]}\n".encode())
            own = facts if len(files) == 1 else {name: facts[name] for name in part.names}
            before = {name: known[name] for name in known if name.startswith(part.prefix)}
            faults = unreadable(own)
            splits[split] = Split(
                len(part.names),
                labeled,
                summary.hexdigest(),
                self._left_out(tree, part, faults, labeled),
                changes(before, own) if has_changed else [],
                len(faults),
                hint,
            )
        changed = changes(known, facts) if has_changed else []
        return Survey(splits, classes, changes=changed, hint=hint)

    def listing(self, split: str) -> Listing:
        """Return the images of a split, sorted by their paths."""
        tree = open_tree(self.path, self.skip)
        files = self._split_files(tree)
        if split not in files:
            raise UsageError(f"folder {self.path}: split '{split}' no longer exists")
        part, labels = files[split], None
        if self._classes(part) is not None:
            label_of = {name: label for label, name in enumerate(self._all_classes(files))}
            labels = [label_of[part.class_of(name)] for name in part.names]
        return Listing(part.names, labels, partial(read_row, tree, part.names))

    def _split_files(self, tree: Tree) -> dict[str, SplitFiles]:
        """Return the files of each split."""
        images = find_images(tree)
        with_images = {name.partition("/")[0] for name in images.names if "/" in name}
        folders = split_folders(self.path, tree.folders(), with_images)
        if not folders:
            files = {"all": SplitFiles("", *images)}
        else:
            self._check_outside(images, folders)
            inside = tuple(f"{folder}/" for folder in folders.values())
            outside = [entry for entry in images.others if not entry[0].startswith(inside)]
            files = {
                split: SplitFiles(
                    f"{folder}/",
                    [name for name in images.names if name.startswith(f"{folder}/")],
                    [e for e in images.others if e[0].startswith(f"{folder}/")] + outside,
                )
                for split, folder in folders.items()
            }
        for part in files.values():
            if not part.names:
                place, held = self.path / part.prefix, LeftOut.of(part.others).contents
                held = f"; it holds {held}" if held else ""
                raise UsageError(f"folder {place} holds no images that can be read{held}")
        return files

    def _check_outside(self, images: ImageFiles, folders: dict[str, str]) -> None:
        """Refuse images outside of the folders of splits."""
        inside = set(folders.values())
        loose = next((name for name in images.names if name.partition("/")[0] not in inside), None)
        if loose is not None:
            raise UsageError(
                f"folder {self.path} holds splits ({', '.join(folders.values())}) and images "
                f"outside of them ({loose}, ...): move the images, or rename folders that are not "
                f"splits (splits are {', '.join(SPLIT_NAMES)})"
            )

    def _hint(self, files: dict[str, SplitFiles]) -> str:
        """Return what the names of the images suggest about the layout."""
        if not self.labeled:
            return ""
        names = [name for part in files.values() for name in part.names]
        hint = hint_of_splits_below(self.path, names) if "all" in files else ""
        return hint or hint_of_backslashes(names)

    def _left_out(
        self, tree: Tree, part: SplitFiles, faults: dict[str, str], labeled: bool
    ) -> LeftOut:
        """Return the counts of what a split leaves out, and the classes that have no image left.

        Args:
            tree: the set.
            part: the files of the split.
            faults: the images that cannot be read, with the reason.
            labeled: whether its folders are classes.
        """
        entries = [*part.others, *faults.items()]
        left_out = LeftOut.of(entries)
        if labeled:
            by_class: dict[str, list[Entry]] = {
                nfc(folder): [] for folder in tree.folders(part.prefix.rstrip("/"))
            }
            for name, reason in entries:
                if name.startswith(part.prefix) and part.class_of(name) in by_class:
                    by_class[part.class_of(name)].append((name, reason))
            kept = {part.class_of(name) for name in part.names if name not in faults}
            left_out.lost_classes = lost_classes(by_class, kept)
        return left_out

    def _classes(self, part: SplitFiles) -> set[str] | None:
        """Return the names of a split's class folders; None for a split without labels."""
        if not self.labeled:
            return None
        loose = [name for name in part.names if part.is_loose(name)]
        if loose and len(loose) < len(part.names):
            raise UsageError(
                f"folder {self.path / part.prefix} holds both images ({loose[0]}, ...) and "
                "folders of images: a split has either classes or images without a folder; "
                "move the images, or write `labels: false`"
            )
        return None if loose else {part.class_of(name) for name in part.names}

    def _all_classes(self, files: dict[str, SplitFiles]) -> list[str]:
        """Return the classes of all splits in the order of their labels."""
        classes: set[str] = set()
        for part in files.values():
            classes |= self._classes(part) or set()
        return sorted(classes)
