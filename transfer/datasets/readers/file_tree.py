"""A dataset's files by name, in a folder or in a zip or tar archive."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from transfer.datasets.readers.member_names import is_image, not_utf8
from transfer.datasets.readers.read_errors import report_errors
from transfer.errors import UsageError
from transfer.utils.files import file_stamp, hash_file
from transfer.utils.formatting import fault_list


class Tree(Protocol):
    """Files by name, with '/' on every system. Hidden files are left out."""

    path: Path

    def files(self, folder: str = "") -> list[str]:
        """Return the names of all files below a folder, relative to the tree, sorted."""
        ...

    def folders(self, folder: str = "") -> list[str]:
        """Return the last parts of the names of a folder's direct subfolders, sorted."""
        ...

    def is_file(self, name: str) -> bool:
        """Whether the tree has a file of this name."""
        ...

    def is_folder(self, name: str) -> bool:
        """Whether the tree has a folder of this name."""
        ...

    def read(self, name: str) -> bytes:
        """Return the bytes of a file; OSError or BadImage where it cannot be read."""
        ...

    def below(self, folder: str) -> Tree:
        """Return a folder of the tree as a tree."""
        ...

    def stamp(self, name: str) -> list[int]:
        """Return numbers that change with the file's bytes (see `file_stamp`)."""
        ...

    def digest(self, name: str) -> str:
        """Return the sha256 of a file's bytes."""
        ...


class FolderTree:
    """A folder on disk. Links to folders are followed, except those to a folder above."""

    def __init__(self, path: Path):
        self.path = path

    def files(self, folder: str = "") -> list[str]:
        names: list[str] = []
        top = self.path / folder
        parts = folder.split("/") if folder else []
        ancestors = tuple(
            _identity(self.path.joinpath(*parts[:depth])) for depth in range(len(parts) + 1)
        )
        stack = [(top, f"{folder}/" if folder else "", ancestors)]
        while stack:
            current, prefix, ancestors = stack.pop()
            for entry in _visible_entries(current):
                name = prefix + entry.name
                if not _is_folder(entry):
                    names.append(name)
                elif (identity := _identity(Path(entry.path))) not in ancestors:
                    stack.append((Path(entry.path), f"{name}/", (*ancestors, identity)))
        return sorted(names)

    def folders(self, folder: str = "") -> list[str]:
        entries = _visible_entries(self.path / folder)
        return sorted(entry.name for entry in entries if _is_folder(entry))

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
    """Return the tree at `path`; UsageError where it is neither a folder nor an archive."""
    if path.is_dir():
        return FolderTree(path)
    if not path.exists():
        raise UsageError(f"folder {path} does not exist")
    if path.name.lower().endswith((".zip", ".tar")):
        from transfer.datasets.readers.archive_tree import ArchiveTree

        return ArchiveTree(path)
    raise UsageError(f"{path} is a file, not a folder, nor a zip or tar archive")


def image_names(tree: Tree, folder: str = "") -> list[str]:
    """Return the names of all images below a folder, sorted; UsageError where one is not UTF-8."""
    names = [name for name in tree.files(folder) if is_image(name)]
    if invalid := [f"{name!a}: its name is not valid UTF-8" for name in names if not_utf8(name)]:
        raise UsageError(f"folder {tree.path}: rename these images:{fault_list(invalid)}")
    return names


def read_row(tree: Tree, names: Sequence[str], row: int) -> bytes:
    """Return the bytes of the file in a row of `names`."""
    return tree.read(names[row])


def _visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    with report_errors(f"folder {folder}"):
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    with report_errors(f"folder {folder}"):
        status = folder.stat()
    return status.st_dev, status.st_ino
