"""Trees: the files of a set by their names, whether they lie in a folder or in a zip or tar archive."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from transfer.datasets.readers.member_names import is_picture, not_utf8
from transfer.errors import UsageError
from transfer.utils.files import file_stamp, hash_file
from transfer.utils.formatting import fault_list
from transfer.utils.progress import Progress
from transfer.utils.stamp_cache import settled_stamp

READ_AT_ONCE = 4096
SAVE_EVERY = 60.0  # s


class Tree(Protocol):
    """Files by their names, with '/' on every system. Hidden ones are not there."""

    path: Path

    def files(self, folder: str = "") -> list[str]:
        """Names of all files below a folder, from the top of the tree, sorted."""
        ...

    def folders(self, folder: str = "") -> list[str]:
        """Names, without what is above them, of the folders right below a folder, sorted."""
        ...

    def is_file(self, name: str) -> bool: ...

    def is_folder(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes:
        """The bytes of a file; OSError or BadImage where they cannot be had."""
        ...

    def below(self, folder: str) -> Tree:
        """A folder of the tree as a tree of its own."""
        ...

    def stamp(self, name: str) -> list[int]:
        """What tells that a file may have changed."""
        ...

    def digest(self, name: str) -> str:
        """sha256 of a file's bytes."""
        ...


class FolderTree:
    """A folder. Links to folders are followed, but for those that lead back up."""

    def __init__(self, path: Path):
        self.path = path

    def files(self, folder: str = "") -> list[str]:
        found: list[str] = []
        top = self.path / folder
        parts = folder.split("/") if folder else []
        above = tuple(
            _identity(self.path.joinpath(*parts[:depth])) for depth in range(len(parts) + 1)
        )
        stack = [(top, f"{folder}/" if folder else "", above)]
        while stack:
            here, prefix, above = stack.pop()
            for entry in self._entries(here):
                name = prefix + entry.name
                if _is_folder(entry):
                    if (identity := _identity(Path(entry.path))) not in above:
                        stack.append((Path(entry.path), f"{name}/", (*above, identity)))
                else:
                    found.append(name)
        return sorted(found)

    def folders(self, folder: str = "") -> list[str]:
        return sorted(
            entry.name for entry in self._entries(self.path / folder) if _is_folder(entry)
        )

    @staticmethod
    def _entries(folder: Path) -> list[os.DirEntry[str]]:
        try:
            return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        except OSError as error:
            raise UsageError(f"folder {folder} cannot be read ({error.strerror})") from error

    def is_file(self, name: str) -> bool:
        return (self.path / name).is_file()

    def is_folder(self, name: str) -> bool:
        return (self.path / name).is_dir()

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def below(self, folder: str) -> FolderTree:
        return FolderTree(self.path / folder)

    def stamp(self, name: str) -> list[int]:
        return file_stamp(self.path / name)

    def digest(self, name: str) -> str:
        return hash_file(self.path / name)[0]


def open_tree(path: Path) -> Tree:
    """The tree at `path`; UsageError where there is none."""
    if path.is_dir():
        return FolderTree(path)
    if not path.exists():
        raise UsageError(f"folder {path} does not exist")
    if path.name.lower().endswith((".zip", ".tar")):
        from transfer.datasets.readers.archive_tree import ArchiveTree

        return ArchiveTree(path)
    raise UsageError(f"{path} is a file, not a folder, nor a zip or tar archive")


def pictures(tree: Tree, folder: str = "") -> list[str]:
    """Names of all pictures below a folder of the tree, sorted; UsageError where one cannot be told."""
    found = [name for name in tree.files(folder) if is_picture(name)]
    if strange := [f"{name!a}: its name is not valid UTF-8" for name in found if not_utf8(name)]:
        raise UsageError(f"folder {tree.path}: rename these pictures:{fault_list(strange)}")
    return found


def digests(
    tree: Tree,
    names: Iterable[str],
    known: Mapping[str, Any],
    save: Callable[[dict[str, list]], None],
) -> dict[str, list]:
    """Name -> [stamp, sha256] of every file; those whose stamp is `known` are not read again.

    `save` is called with what is there so far, now and then: to read a large set once is enough.
    """
    facts, fresh, faults = {}, {}, []
    for name in names:
        try:
            now = tree.stamp(name)
        except OSError as error:
            faults.append(f"{name}: {error.strerror}")
            continue
        if name in known and known[name][0] == now:
            facts[name] = known[name]
        else:
            fresh[name] = now
    todo, saved = iter(fresh), time.monotonic()
    with (
        Progress(f"reading {tree.path}", len(fresh), "files") as progress,
        ThreadPoolExecutor() as pool,
    ):
        while some := list(islice(todo, READ_AT_ONCE)):
            for name, (digest, fault) in zip(
                some, pool.map(partial(_digest, tree), some), strict=True
            ):
                if fault:
                    faults.append(f"{name}: {fault}")
                else:
                    facts[name] = [settled_stamp(fresh[name]), digest]
                progress.advance(1)
            if time.monotonic() - saved > SAVE_EVERY:
                save(facts)
                saved = time.monotonic()
    if faults:
        raise UsageError(
            f"{len(faults)} files of {tree.path} cannot be read:{fault_list(sorted(faults))}"
        )
    return facts


def changes(known: dict[str, list], now: dict[str, list]) -> list[str]:
    """What differs from the last time that the folder was looked at."""
    if not known:
        return []
    gone, added = sorted(known.keys() - now.keys()), sorted(now.keys() - known.keys())
    other = sorted(name for name in known.keys() & now.keys() if known[name][1] != now[name][1])
    return [
        f"{name} is {what}"
        for what, names in (("gone", gone), ("new", added), ("another", other))
        for name in names
    ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise UsageError(f"folder {folder} cannot be read ({error.strerror})") from error
    return status.st_dev, status.st_ino


def _digest(tree: Tree, name: str) -> tuple[str, str]:
    """(sha256, what is wrong)."""
    try:
        return tree.digest(name), ""
    except (OSError, ValueError) as error:
        return "", getattr(error, "strerror", None) or str(error)
