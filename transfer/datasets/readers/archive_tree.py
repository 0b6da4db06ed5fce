"""Zip and tar archives as trees: an index of what lies where is made once, and files are read without unpacking."""

from __future__ import annotations

import hashlib
import os
import struct
import tarfile
import zipfile
import zlib
from copy import copy
from pathlib import Path
from typing import IO, NamedTuple

from transfer.datasets.readers.member_names import is_hidden, tidy, unsafe
from transfer.errors import UsageError
from transfer.utils.files import file_stamp
from transfer.utils.formatting import fault_list

SPLITS = ("unlabeled", "train", "val", "test")
LOCAL_HEADER = struct.Struct(
    "<4s22xHH"
)  # of a zip's file: signature, ..., lengths of its name and of what follows it
LARGEST = 1 << 30  # bytes of a file that is read into memory
BLOCK = 512  # bytes, of which tars are made


class MemberPlace(NamedTuple):
    """Where in the archive a file lies. `packed` is its length there; None in a tar, which packs nothing."""

    start: int
    size: int
    packed: int | None = None
    deflated: bool = False
    checksum: int = 0


class ArchiveTree:
    """A zip or a tar (not a compressed one, which can be read from its beginning only).

    A folder that holds everything else is passed over, as if its content had been packed, unless it is called as a
    split. Paths that leave the archive, and links, are refused.
    """

    def __init__(self, path: Path):
        self.path = self._archive = path
        self._stamp = file_stamp(path)
        index = zip_index(path) if path.name.lower().endswith(".zip") else tar_index(path)
        self._set_index(
            _without_top({name: place for name, place in index.items() if not is_hidden(name)})
        )

    def _set_index(self, index: dict[str, MemberPlace]) -> None:
        self._index = index
        self._folders = {
            "",
            *(name[:at] for name in index for at, one in enumerate(name) if one == "/"),
        }

    def below(self, folder: str) -> ArchiveTree:
        found = copy(self)
        found.path = self.path / folder
        start = len(folder) + 1
        found._set_index({name[start:]: self._index[name] for name in self.files(folder)})
        return found

    def files(self, folder: str = "") -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return sorted(name for name in self._index if name.startswith(prefix))

    def folders(self, folder: str = "") -> list[str]:
        prefix = f"{folder}/" if folder else ""
        found = (
            name[len(prefix) :]
            for name in self._folders
            if name.startswith(prefix) and name != folder
        )
        return sorted(name for name in found if name and "/" not in name)

    def is_file(self, name: str) -> bool:
        return name in self._index

    def is_folder(self, name: str) -> bool:
        return name in self._folders

    def read(self, name: str) -> bytes:
        if name not in self._index:
            raise FileNotFoundError(2, "No such file in the archive")
        return read_place(self._archive, self._index[name])

    def stamp(self, name: str) -> list[int]:
        if name not in self._index:
            raise FileNotFoundError(2, "No such file in the archive")
        return self._stamp

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.read(name)).hexdigest()


def read_place(path: Path, place: MemberPlace) -> bytes:
    """The bytes of a file in an archive; BadImage where they are not what the archive says."""
    from transfer.datasets.packed.decode import BadImage

    if place.size > LARGEST:
        raise BadImage(f"{place.size:,} bytes, more than a picture has")
    with open(path, "rb") as file:
        if place.packed is None:
            return _exactly(file, place.start, place.size)
        header = _exactly(file, place.start, LOCAL_HEADER.size)
        signature, name, extra = LOCAL_HEADER.unpack(header)
        if signature != b"PK\3\4":
            raise BadImage("the archive's directory does not say where it lies")
        data = _exactly(file, place.start + LOCAL_HEADER.size + name + extra, place.packed)
    if place.deflated:
        try:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            data = unpacker.decompress(data, place.size + 1)
        except zlib.error as error:
            raise BadImage(f"its packed bytes are damaged ({error})") from error
    if len(data) != place.size or zlib.crc32(data) != place.checksum:
        raise BadImage("its bytes do not fit the archive's checksum")
    return data


def _exactly(file: IO[bytes], start: int, size: int) -> bytes:
    from transfer.datasets.packed.decode import BadImage

    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise BadImage("the archive has been cut")
    return data


def zip_index(path: Path) -> dict[str, MemberPlace]:
    """Name -> place of every file in a zip; UsageError says what is wrong with it."""
    found, faults = {}, []
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UsageError(
            f"{path} is not a readable zip archive: {' '.join(str(error).split())}"
        ) from error
    for member in members:
        name = tidy(member.filename)
        if member.is_dir():
            continue
        fault = unsafe(name)
        if not fault and member.flag_bits & 1:
            fault = "it is encrypted"
        if not fault and member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            fault = "it is packed by a method other than deflate"
        if (
            not fault
            and member.create_system == 3
            and (member.external_attr >> 16) & 0o170000 == 0o120000
        ):
            fault = "it is a link"
        if not fault and name in found:
            fault = "it is there twice"
        if fault:
            faults.append(f"{member.filename!r}: {fault}")
            continue
        deflated = member.compress_type == zipfile.ZIP_DEFLATED
        found[name] = MemberPlace(
            member.header_offset, member.file_size, member.compress_size, deflated, member.CRC
        )
    return _sound(path, found, faults)


def tar_index(path: Path) -> dict[str, MemberPlace]:
    """Name -> place of every file in a tar; UsageError says what is wrong with it."""
    found, faults = {}, []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = tidy(member.name)
                if member.isdir():
                    continue
                fault = unsafe(name)
                if not fault and (member.issym() or member.islnk()):
                    fault = "it is a link"
                if not fault and (not member.isreg() or member.sparse is not None):
                    fault = "it is no plain file"
                if not fault and name in found:
                    fault = "it is there twice"
                if fault:
                    faults.append(f"{member.name!r}: {fault}")
                else:
                    found[name] = MemberPlace(member.offset_data, member.size)
            end = archive.offset
        if not faults:
            _check_end(path, end)
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        packed = _is_packed(path)
        what = "it is compressed: unpack it" if packed else " ".join(str(error).split())
        raise UsageError(f"{path} is not a readable tar archive: {what}") from error
    return _sound(path, found, faults)


def _check_end(path: Path, end: int) -> None:
    """A tar ends with blocks of zeros: without, it has been cut; what stands behind them would be lost."""
    with open(path, "rb") as file:
        file.seek(end)
        mark = file.read(BLOCK)
        if len(mark) < BLOCK or any(mark):
            raise tarfile.ReadError("it ends early: it has been cut")
        while block := file.read(1 << 20):
            if any(block):
                raise tarfile.ReadError("it goes on after its end: two archives have been joined")


def _is_packed(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(6)
    except OSError:
        return False
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"))


def _sound(path: Path, found: dict[str, MemberPlace], faults: list[str]) -> dict[str, MemberPlace]:
    if faults:
        raise UsageError(
            f"{path} holds {len(faults)} files that cannot be taken:{fault_list(faults)}"
        )
    end = os.path.getsize(path)
    if cut := [
        name for name, place in found.items() if place.start + (place.packed or place.size) > end
    ]:
        raise UsageError(
            f"{path} has been cut: {cut[0]} and {len(cut) - 1} more lie beyond its end"
        )
    return found


def _without_top(index: dict[str, MemberPlace]) -> dict[str, MemberPlace]:
    tops = {name.partition("/")[0] for name in index}
    if len(tops) != 1 or tops & {*SPLITS} or any("/" not in name for name in index):
        return index
    return {name.partition("/")[2]: place for name, place in index.items()}
