"""Reader `folder`: a folder of pictures; flat, a folder a class, or a folder a split (see data/folder.yaml)."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from transfer.errors import UsageError
from transfer.files import hash_file, stamp
from transfer.images.sources import Listing, Split, Survey, SurveyMemory, lasting, listed
from transfer.progress import Progress

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SPLITS = ("unlabeled", "train", "val", "test")


class FolderSource:
    """`labelled=False` takes every picture below a split's folder, whatever its subfolders are called.

    Pictures go by their paths from the folder, with '/' on every system.
    """

    def __init__(self, path: Path, labelled: bool = True):
        self.path, self.labelled = path, labelled

    def survey(self, memory: SurveyMemory) -> Survey:
        """Splits and classes. The fingerprint is of the pictures' paths, bytes and labels; bytes are read once."""
        pictures = self._splits()
        classes = self._all_classes(pictures)
        known = memory.recall(self.path)
        facts = self._digests([name for names in pictures.values() for name in names], known)
        if facts != known:
            memory.keep(self.path, facts)
        splits = {}
        for split, names in pictures.items():
            labelled = self._classes(split, names) is not None
            # A class more in another split moves the labels of this one, so all names count.
            summary = hashlib.sha256(json.dumps(classes if labelled else None).encode())
            start = len(_prefix(split))
            for name in names:
                summary.update(f"{name[start:]}\0{facts[name][1]}\n".encode())
            splits[split] = Split(len(names), labelled, summary.hexdigest())
        return Survey(splits, classes, changes=_changes(known, facts))

    def listing(self, split: str) -> Listing:
        from transfer.images.decode import decode_file, squares

        pictures = self._splits()
        if split not in pictures:
            raise UsageError(f"folder {self.path} has no split '{split}' any more")
        ids, labels = pictures[split], None
        if self._classes(split, ids) is not None:
            number = {name: label for label, name in enumerate(self._all_classes(pictures))}
            labels = [number[_class(split, name)] for name in ids]
        return Listing(ids, labels, partial(squares, lambda row: decode_file(self.path / ids[row])))

    def _splits(self) -> dict[str, list[str]]:
        """Split -> its pictures, sorted."""
        if not self.path.is_dir():
            what = "is a file, not a folder" if self.path.exists() else "does not exist"
            raise UsageError(f"folder {self.path} {what}")
        names = self._pictures()
        found = [split for split in SPLITS if (self.path / split).is_dir()]
        if not found:
            splits = {"all": names}
        else:
            splits = {split: [name for name in names if name.startswith(_prefix(split))] for split in found}
            loose = next((name for name in names if name.partition("/")[0] not in found), None)
            if loose is not None:
                raise UsageError(
                    f"folder {self.path} holds splits ({', '.join(found)}) and pictures that belong to none of them "
                    f"({loose}, ...): move those, or rename what is no split"
                )
        for split, names in splits.items():
            if not names:
                raise UsageError(f"folder {self.path / _prefix(split)} holds no pictures ({', '.join(SUFFIXES)})")
        return splits

    def _pictures(self) -> list[str]:
        """All pictures below the folder, sorted. Links to folders are followed, but for those that lead back up."""
        found, unnamable = [], []
        stack = [(self.path, "", (_identity(self.path),))]
        while stack:
            folder, prefix, above = stack.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError as error:
                raise UsageError(f"folder {folder} cannot be read ({error.strerror})") from error
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = prefix + entry.name
                if entry.is_dir():
                    if (identity := _identity(Path(entry.path))) not in above:
                        stack.append((Path(entry.path), f"{name}/", (*above, identity)))
                elif entry.name.lower().endswith(SUFFIXES):
                    found.append(name)
                    if any("\ud800" <= character <= "\udfff" for character in name):
                        unnamable.append(f"{name!a}: its name is not valid UTF-8")
        if unnamable:
            raise UsageError(f"folder {self.path}: rename these pictures:{listed(sorted(unnamable))}")
        return sorted(found)

    def _classes(self, split: str, names: list[str]) -> set[str] | None:
        """Names of the class folders; None for a flat split."""
        if not self.labelled:
            return None
        loose = [name for name in names if "/" not in name[len(_prefix(split)) :]]
        if loose and len(loose) < len(names):
            raise UsageError(
                f"folder {self.path / _prefix(split)} holds both pictures ({loose[0]}, ...) and folders of pictures; "
                "a flat set has no folders, a set with classes has nothing else: move them, or say `labels: false`"
            )
        return None if loose else {_class(split, name) for name in names}

    def _all_classes(self, pictures: dict[str, list[str]]) -> list[str]:
        """The classes of all splits, in the order of their labels."""
        return sorted({one for split, names in pictures.items() for one in self._classes(split, names) or ()})

    def _digests(self, names: list[str], known: dict[str, list]) -> dict[str, list]:
        """Name -> [stamp, sha256] of every picture; those whose stamp is `known` are not read again."""
        facts, fresh, faults = {}, {}, []
        for name in names:
            try:
                now = stamp(self.path / name)
            except OSError as error:
                faults.append(f"{name}: {error.strerror}")
                continue
            if name in known and known[name][0] == now:
                facts[name] = known[name]
            else:
                fresh[name] = now
        with Progress(f"reading {self.path}", len(fresh), "files") as progress, ThreadPoolExecutor() as pool:
            for name, (digest, fault) in zip(
                fresh, pool.map(lambda name: _digest(self.path / name), fresh), strict=True
            ):
                facts[name] = [lasting(fresh[name]), digest]
                if fault:
                    faults.append(f"{name}: {fault}")
                progress.advance(1)
        if faults:
            raise UsageError(f"{len(faults)} pictures of folder {self.path} cannot be read:{listed(sorted(faults))}")
        return facts


def _prefix(split: str) -> str:
    return "" if split == "all" else f"{split}/"


def _class(split: str, name: str) -> str:
    return name[len(_prefix(split)) :].partition("/")[0]


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _changes(known: dict[str, list], now: dict[str, list]) -> list[str]:
    """What differs from the last time that the folder was looked at."""
    if not known:
        return []
    gone, added = sorted(known.keys() - now.keys()), sorted(now.keys() - known.keys())
    other = sorted(name for name in known.keys() & now.keys() if known[name][1] != now[name][1])
    return [
        f"{name} is {what}" for what, names in (("gone", gone), ("new", added), ("another", other)) for name in names
    ]


def _digest(path: Path) -> tuple[str, str]:
    """(sha256, what is wrong)."""
    try:
        return hash_file(path)[0], ""
    except OSError as error:
        return "", error.strerror or str(error)
