"""Zip and tar archives as trees, read without unpacking them.

`archive_index.py` finds out where each file lies; `read_member` reads it from there.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import IO

from transfer.datasets.readers.archive_index import MemberLocation, tar_index, zip_index
from transfer.datasets.readers.base import SPLIT_NAMES, split_of
from transfer.datasets.readers.left_out import Entry
from transfer.datasets.readers.member_names import is_image, passed_over
from transfer.errors import BadImage
from transfer.utils.files import file_stamp

# Of a file in a zip: signature, ..., length of its name, length of the extra field after the name.
LOCAL_HEADER = struct.Struct("<4s22xHH")
MAX_MEMBER_BYTES = 1 << 30  # of a file that is read into memory


class ArchiveTree:
    """A zip or an uncompressed tar; a compressed tar can only be read from its beginning.

    A folder that holds all other files is skipped, unless it has the name of a split. Archives with
    links, or with paths that lead out of the archive, are refused.
    """

    def __init__(self, path: Path, skip: bool = False):
        self.path = self._archive = path
        self.skip = skip
        self._stamp = file_stamp(path)
        index = (zip_index if path.name.lower().endswith(".zip") else tar_index)(path, skip)
        hidden = {name: passed_over(name) for name in index.files}
        visible = {name: place for name, place in index.files.items() if hidden[name] is None}
        # A class whose images cannot be read is still a folder beside the others.
        lost = [name for name, _ in index.passed if is_image(name) and not passed_over(name)]
        top = _top_folder(path, [*visible, *lost])
        index.folders |= {name.rpartition("/")[0] for name in lost if "/" in name}
        hidden |= {name: passed_over(f"{name}/_") for name in index.folders}
        folders = [name for name in index.folders if hidden[name] is None and name.startswith(top)]
        passed = {*index.passed, *(entry for entry in hidden.values() if entry)}
        self._passed = sorted((name.removeprefix(top), reason) for name, reason in passed)
        self._set_index(
            {name.removeprefix(top): place for name, place in visible.items()},
            {name.removeprefix(top) for name in folders},
        )

    def _set_index(self, index: dict[str, MemberLocation], folders: set[str]) -> None:
        self._index, self._folders = index, {"", *folders}
        for name in (*index, *folders):
            self._folders |= {name[:end] for end, letter in enumerate(name) if letter == "/"}

    def below(self, folder: str) -> ArchiveTree:
        tree = copy(self)
        tree.path = self.path / folder
        start = len(folder) + 1
        tree._passed = [(name[start:], reason) for name, reason in self.passed_over(folder)]
        tree._set_index(
            {name[start:]: self._index[name] for name in self.files(folder)},
            {name[start:] for name in self._folders if name.startswith(f"{folder}/")},
        )
        return tree

    def passed_over(self, folder: str = "") -> list[Entry]:
        prefix = f"{folder}/" if folder else ""
        return [entry for entry in self._passed if entry[0].startswith(prefix)]

    def files(self, folder: str = "") -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return sorted(name for name in self._index if name.startswith(prefix))

    def loose_files(self, folder: str) -> tuple[list[str], list[Entry]]:
        start = len(folder) + 1 if folder else 0
        names = [name for name in self.files(folder) if "/" not in name[start:]]
        passed = [entry for entry in self.passed_over(folder) if "/" not in entry[0][start:]]
        return names, passed

    def folders(self, folder: str = "") -> list[str]:
        prefix = f"{folder}/" if folder else ""
        below = (
            name[len(prefix) :]
            for name in self._folders
            if name.startswith(prefix) and name != folder
        )
        return sorted(name for name in below if name and "/" not in name)

    def is_file(self, name: str) -> bool:
        return name in self._index

    def is_folder(self, name: str) -> bool:
        return name in self._folders

    def read(self, name: str) -> bytes:
        return read_member(self._archive, self._location(name))

    def stamp(self, name: str) -> list[int]:
        self._location(name)
        return self._stamp

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.read(name)).hexdigest()

    def _location(self, name: str) -> MemberLocation:
        if name not in self._index:
            raise FileNotFoundError(2, "No such file in the archive")
        return self._index[name]


def read_member(archive: Path, member: MemberLocation) -> bytes:
    """Return the bytes of a file in an archive; BadImage where they contradict its directory."""
    if member.size > MAX_MEMBER_BYTES:
        raise BadImage(f"{member.size:,} bytes, more than an image has")
    with open(archive, "rb") as file:
        if member.packed is None:
            return _read_range(file, member.start, member.size)
        header = _read_range(file, member.start, LOCAL_HEADER.size)
        signature, name, extra = LOCAL_HEADER.unpack(header)
        if signature != b"PK\3\4":
            raise BadImage("the archive's directory gives an invalid offset for it")
        data = _read_range(file, member.start + LOCAL_HEADER.size + name + extra, member.packed)
    if member.deflated:
        try:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflater.decompress(data, member.size + 1)
        except zlib.error as error:
            raise BadImage(f"its compressed bytes are damaged ({error})") from error
    if len(data) != member.size or zlib.crc32(data) != member.checksum:
        raise BadImage("its bytes do not match the archive's checksum")
    return data


def _read_range(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise BadImage("the archive is truncated")
    return data


def _top_folder(archive: Path, names: Iterable[str]) -> str:
    """Return the folder, with a slash, that holds all others; "" where there is none.

    A split is no such folder; `training.zip` may hold its files in a folder `training`.
    """
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1 or any("/" not in name for name in names):
        return ""
    (top,) = tops
    if top in SPLIT_NAMES or (split_of(top) and top.lower() != archive.stem.lower()):
        return ""
    return f"{top}/"
