"""The index of a zip or tar archive: where each file lies. Crafted and damaged ones are refused."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from transfer.datasets.readers.member_names import name_fault, tidy
from transfer.datasets.readers.read_errors import error_text, report_errors
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list, plural

TAR_BLOCK = 512  # bytes; a tar consists of blocks of this size
UNIX = 3  # code of the system that a zip was made on
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


class MemberLocation(NamedTuple):
    """Where a file lies in an archive; offsets and sizes in bytes.

    `packed` is the size in the archive; None in a tar, which does not compress.
    """

    start: int
    size: int
    packed: int | None = None
    deflated: bool = False
    checksum: int = 0


def zip_index(path: Path) -> dict[str, MemberLocation]:
    """Return the location of every file in a zip by its name; UsageError where it is invalid."""
    kinds = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError)
    with report_errors(path, "not a readable zip archive", kinds), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    index: dict[str, MemberLocation] = {}
    faults = []
    for member in members:
        name = tidy(member.filename)
        if member.is_dir():
            continue
        if fault := _zip_fault(member, name, name in index):
            faults.append(f"{member.filename!r}: {fault}")
            continue
        deflated = member.compress_type == zipfile.ZIP_DEFLATED
        index[name] = MemberLocation(
            member.header_offset, member.file_size, member.compress_size, deflated, member.CRC
        )
    return _checked(path, index, faults)


def _zip_fault(member: zipfile.ZipInfo, name: str, repeated: bool) -> str:
    if fault := name_fault(name):
        return fault
    if member.flag_bits & 1:
        return "it is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is compressed by a method other than deflate"
    if member.create_system == UNIX and stat.S_ISLNK(member.external_attr >> 16):
        return "it is a link"
    return "it occurs twice" if repeated else ""


def tar_index(path: Path) -> dict[str, MemberLocation]:
    """Return the location of every file in a tar by its name; UsageError where it is invalid."""
    index: dict[str, MemberLocation] = {}
    faults = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = tidy(member.name)
                if member.isdir():
                    continue
                if fault := _tar_fault(member, name, name in index):
                    faults.append(f"{member.name!r}: {fault}")
                else:
                    index[name] = MemberLocation(member.offset_data, member.size)
            end = archive.offset
        if not faults:
            _check_end(path, end)
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        reason = "compressed: unpack it" if _is_compressed(path) else error_text(error)
        raise UsageError(f"{path}: not a readable tar archive ({reason})") from error
    return _checked(path, index, faults)


def _tar_fault(member: tarfile.TarInfo, name: str, repeated: bool) -> str:
    if fault := name_fault(name):
        return fault
    if member.issym() or member.islnk():
        return "it is a link"
    if not member.isreg() or member.sparse is not None:
        return "it is not a plain file"
    return "it occurs twice" if repeated else ""


def _check_end(path: Path, end: int) -> None:
    """Require the blocks of zeros that end a tar, and nothing else after its last file.

    Without them the tar is truncated; files after them would not be read.
    """
    with open(path, "rb") as file:
        file.seek(end)
        mark = file.read(TAR_BLOCK)
        if len(mark) < TAR_BLOCK or any(mark):
            raise tarfile.ReadError("truncated: it has no end mark")
        while block := file.read(1 << 20):
            if any(block):
                raise tarfile.ReadError("data after its end: two archives were joined")


def _is_compressed(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(6)
    except OSError:
        return False
    return head.startswith(COMPRESSED)


def _checked(
    path: Path, index: dict[str, MemberLocation], faults: list[str]
) -> dict[str, MemberLocation]:
    if faults:
        count = plural(len(faults), "file")
        raise UsageError(f"{path}: {count} cannot be used:{fault_list(faults)}")
    end = os.path.getsize(path)
    beyond = [
        name
        for name, location in index.items()
        if location.start + (location.packed or location.size) > end
    ]
    if beyond:
        count = plural(len(beyond), "file")
        raise UsageError(f"{path}: truncated: {count} beyond its end, such as {beyond[0]}")
    return index
