"""Reader `folder`: a folder of pictures; flat, a folder a class, or a folder a split (see data/folder.yaml)."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from transfer.errors import UsageError
from transfer.images.sources import Listing, Split, Survey, SurveyMemory, stamp

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SPLITS = ("unlabeled", "train", "val", "test")


class FolderSource:
    """`labelled=False` takes every picture below a split's folder, whatever its subfolders are called."""

    def __init__(self, path: Path, labelled: bool = True):
        self.path, self.labelled = path, labelled

    def survey(self, memory: SurveyMemory) -> Survey:
        """Splits and classes. The fingerprint is of the pictures' paths and bytes; bytes are read once."""
        if not self.path.is_dir():
            what = "is a file, not a folder" if self.path.exists() else "does not exist"
            raise UsageError(f"folder {self.path} {what}")
        files = {name: self._pictures(root) for name, root in self._split_folders().items()}
        digests = self._digests([path for paths in files.values() for path in paths], memory)
        splits, all_classes = {}, set()
        for name, root in self._split_folders().items():
            if not files[name]:
                raise UsageError(f"folder {root} holds no pictures ({', '.join(SUFFIXES)})")
            classes = self._classes(root, files[name])
            all_classes |= set(classes or [])
            summary = hashlib.sha256()
            for path in files[name]:
                summary.update(f"{path.relative_to(root).as_posix()}\0{digests[str(path)]}\n".encode())
            splits[name] = Split(len(files[name]), classes is not None, summary.hexdigest())
        return Survey(splits, sorted(all_classes))

    def listing(self, split: str) -> Listing:
        from transfer.images.decode import decode_file, squares

        folders = self._split_folders()
        names = sorted({one for root in folders.values() for one in self._classes(root, self._pictures(root)) or []})
        root = folders[split]
        files = self._pictures(root)
        labelled = self._classes(root, files) is not None
        labels = [names.index(path.relative_to(root).parts[0]) for path in files] if labelled else None
        ids = [path.relative_to(self.path).as_posix() for path in files]
        return Listing(ids, labels, partial(squares, lambda row: decode_file(files[row])))

    def _split_folders(self) -> dict[str, Path]:
        found = {name: self.path / name for name in SPLITS if (self.path / name).is_dir()}
        return found or {"all": self.path}

    def _pictures(self, root: Path) -> list[Path]:
        """All pictures below `root`, sorted by path; links to folders are not followed, so that none can loop."""
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = [one for one in folders if not one.startswith(".")]
            found += [
                Path(folder, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")
            ]
        return sorted(found, key=lambda path: path.relative_to(root).as_posix())

    def _classes(self, root: Path, files: list[Path]) -> list[str] | None:
        """Names of the class folders; None for a flat split."""
        if not self.labelled:
            return None
        depths = {len(path.relative_to(root).parts) > 1 for path in files}
        if depths == {True, False}:
            loose = next(path for path in files if len(path.relative_to(root).parts) == 1)
            raise UsageError(
                f"folder {root} holds both pictures ({loose.name}, ...) and folders of pictures; "
                "a flat set has no folders, a set with classes has nothing else: move them, or say `labels: false`"
            )
        return sorted({path.relative_to(root).parts[0] for path in files}) if depths == {True} else None

    def _digests(self, files: list[Path], memory: SurveyMemory) -> dict[str, str]:
        known = memory.recall(self.path)
        stamps = {str(path): self._stamp(path) for path in files}
        fresh = [path for path in files if known.get(str(path), [None])[0] != stamps[str(path)]]
        with ThreadPoolExecutor() as pool:
            digests = dict(zip(map(str, fresh), pool.map(_digest, fresh), strict=True))
        facts = {path: [stamps[path], digests[path] if path in digests else known[path][1]] for path in stamps}
        if facts != known:
            memory.keep(self.path, facts)
        return {path: digest for path, (_, digest) in facts.items()}

    def _stamp(self, path: Path) -> list[int]:
        try:
            return stamp(path.stat())
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror})") from error


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return (
                hashlib.file_digest(file, "sha256").hexdigest()
                if hasattr(hashlib, "file_digest")
                else _slow_digest(file)
            )
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error


def _slow_digest(file: object) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):  # type: ignore[attr-defined]
        digest.update(block)
    return digest.hexdigest()
