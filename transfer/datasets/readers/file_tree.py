"""A dataset's files by name, in a folder or in a zip or tar archive."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from transfer.datasets.readers.left_out import (
    BROKEN_LINK,
    INVALID_NAME,
    MISSING,
    NO_RIGHTS,
    UNREADABLE,
    Entry,
    refuse_faults,
    suffix_reason,
)
from transfer.datasets.readers.member_names import is_image, not_utf8, system_reason
from transfer.datasets.readers.read_errors import error_text, report_errors
from transfer.errors import BadImage, UsageError
from transfer.utils.files import file_stamp, hash_file
from transfer.utils.paths import broken_link


class Tree(Protocol):
    """Files by name, with '/' on every system. Hidden files and those of systems are passed over.

    `skip`: what cannot be read is left out, not refused.
    """

    path: Path
    skip: bool

    def files(self, folder: str = "") -> list[str]:
        """Return the names of all files below a folder, relative to the tree, sorted."""
        ...

    def passed_over(self, folder: str = "") -> list[Entry]:
        """Return the files and folders below a folder that `files` leaves out, with the reason."""
        ...

    def loose_files(self, folder: str) -> tuple[list[str], list[Entry]]:
        """Return the names of the files in a folder itself, and what is passed over in it."""
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

    def __init__(self, path: Path, skip: bool = False):
        self.path, self.skip = path, skip
        self._walks: dict[str, tuple[list[str], list[Entry]]] = {}

    def files(self, folder: str = "") -> list[str]:
        return self._walk(folder)[0]

    def passed_over(self, folder: str = "") -> list[Entry]:
        return self._walk(folder)[1]

    def _walk(self, folder: str) -> tuple[list[str], list[Entry]]:
        """Return the files below a folder, and what is passed over; a folder is read once."""
        if folder in self._walks:
            return self._walks[folder]
        names: list[str] = []
        passed: list[Entry] = []
        parts = folder.split("/") if folder else []
        ancestors = tuple(
            _identity(self.path.joinpath(*parts[:depth])) for depth in range(len(parts) + 1)
        )
        stack = [(self.path / folder, f"{folder}/" if folder else "", ancestors)]
        while stack:
            current, prefix, ancestors = stack.pop()
            for entry in self._entries(current, prefix, passed):
                name, is_folder = prefix + entry.name, _is_folder(entry)
                if reason := system_reason(entry.name, is_folder):
                    passed.append((name, reason))
                elif not is_folder and _is_broken(entry) and not is_image(name):
                    passed.append((name, BROKEN_LINK))
                elif not is_folder:
                    names.append(name)  # an image behind a broken link is reported as an image
                elif (identity := _identity(Path(entry.path))) in ancestors:
                    passed.append((name, "link loop"))
                else:
                    stack.append((Path(entry.path), f"{name}/", (*ancestors, identity)))
        self._walks[folder] = sorted(names), sorted(passed)
        return self._walks[folder]

    def _entries(
        self, folder: Path, prefix: str = "", passed: list[Entry] | None = None
    ) -> list[os.DirEntry[str]]:
        """Return the entries of a folder; one without rights is left out where `skip` is set."""
        try:
            return list(os.scandir(folder))
        except OSError as error:
            if self.skip and folder != self.path:
                if passed is not None:
                    no_rights = isinstance(error, PermissionError)
                    reason = "folder without rights" if no_rights else "unreadable folder"
                    passed.append((prefix.rstrip("/"), reason))
                return []
            remedy = "allow it to be read, remove it, or set `on_bad_image: skip` for this set"
            raise UsageError(
                f"folder {folder}: cannot be read ({error_text(error)}); {remedy}"
            ) from error

    def loose_files(self, folder: str) -> tuple[list[str], list[Entry]]:
        prefix = f"{folder}/" if folder else ""
        names: list[str] = []
        passed: list[Entry] = []
        for entry in self._entries(self.path / folder):
            name, is_folder = prefix + entry.name, _is_folder(entry)
            if reason := system_reason(entry.name, is_folder):
                passed.append((name, reason))
            elif not is_folder:
                names.append(name)
        return sorted(names), sorted(passed)

    def folders(self, folder: str = "") -> list[str]:
        return sorted(
            entry.name
            for entry in self._entries(self.path / folder)
            if _is_folder(entry) and not system_reason(entry.name, is_folder=True)
        )

    def is_file(self, name: str) -> bool:
        return (self.path / name).is_file()

    def is_folder(self, name: str) -> bool:
        return (self.path / name).is_dir()

    def read(self, name: str) -> bytes:
        file_stamp(self.path / name)  # OSError for a pipe, which would never end
        return (self.path / name).read_bytes()

    def below(self, folder: str) -> FolderTree:
        return FolderTree(self.path / folder, self.skip)

    def stamp(self, name: str) -> list[int]:
        return file_stamp(self.path / name)

    def digest(self, name: str) -> str:
        return hash_file(self.path / name)[0]


def open_tree(path: Path, skip: bool = False) -> Tree:
    """Return the tree at `path`; UsageError where it is neither a folder nor an archive."""
    if path.is_dir():
        return FolderTree(path, skip)
    if not path.exists():
        raise UsageError(f"folder {path} does not exist{broken_link(path)}")
    if path.name.lower().endswith((".zip", ".tar")):
        from transfer.datasets.readers.archive_tree import ArchiveTree

        return ArchiveTree(path, skip)
    raise UsageError(f"{path} is a file, not a folder, nor a zip or tar archive")


class ImageFiles(NamedTuple):
    """The images below a folder, sorted, and the files that are not taken."""

    names: list[str]
    others: list[Entry]


def find_images(tree: Tree, folder: str = "") -> ImageFiles:
    """Return the images below a folder; UsageError where the name of one is not UTF-8."""
    names, others, invalid = [], list(tree.passed_over(folder)), []
    for name in tree.files(folder):
        if not is_image(name):
            others.append((name, suffix_reason(name)))
        elif not_utf8(name):
            invalid.append(name)
        else:
            names.append(name)
    if tree.skip:
        others += [(name, INVALID_NAME) for name in invalid]
    else:
        faults = [f"{name!a}: its name is not valid UTF-8" for name in invalid]
        refuse_faults(f"folder {tree.path}", "image", faults, "must be renamed")
    return ImageFiles(names, others)


def read_row(tree: Tree, names: Sequence[str], row: int) -> bytes:
    """Return the bytes of the file in a row of `names`; BadImage where it cannot be read."""
    try:
        return tree.read(names[row])
    except OSError as error:
        raise BadImage(error_text(error)) from error


def open_fault(tree: Tree, name: str, error: BaseException) -> str:
    """Return the reason, for the counts, why a file cannot be opened."""
    if isinstance(error, PermissionError):
        return NO_RIGHTS
    if isinstance(error, FileNotFoundError):
        return BROKEN_LINK if os.path.lexists(tree.path / name) else MISSING
    return UNREADABLE


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_broken(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _identity(folder: Path) -> tuple[int, int]:
    with report_errors(f"folder {folder}"):
        status = folder.stat()
    return status.st_dev, status.st_ino
