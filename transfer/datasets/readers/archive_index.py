"""The index of a zip or tar archive: where each file lies. Crafted and damaged ones are refused."""

from __future__ import annotations

import os
import re
import stat
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from transfer.datasets.readers.left_out import Entry, refuse_faults
from transfer.datasets.readers.member_names import is_hidden, name_fault, tidy
from transfer.datasets.readers.read_errors import error_text, report_errors
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list, plural

TAR_BLOCK = 512  # bytes; a tar consists of blocks of this size
UTF8_NAME = 0x800  # flag of a member of a zip
BACKSLASH = re.compile(r"\\")
# After a byte above 127 it may be half of a letter, as of ソ, 表 and 能 in Shift-JIS.
SURE_BACKSLASH = re.compile(r"(?<![^\0-\x7f])\\")
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


# Reason for the counts -> the fault.
LINK, ENCRYPTED = "link", "encrypted file"
COMPRESSION, NOT_PLAIN = "file of another compression", "special file"
FAULTS = {
    LINK: "it is a link",
    ENCRYPTED: "it is encrypted",
    COMPRESSION: "it is compressed by a method other than deflate",
    NOT_PLAIN: "it is not a plain file",
}


@dataclass
class ArchiveIndex:
    """Where the files of an archive lie, its folders, and the members that cannot be read.

    `skip`: such members are left out, not refused. Names that lead out of the set are refused.
    """

    path: Path
    skip: bool = False
    files: dict[str, MemberLocation] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    passed: list[Entry] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    dangers: list[str] = field(default_factory=list)

    def admits(self, name: str, original: str, reason: str) -> bool:
        """Whether a member can be read and has a valid name; others are recorded.

        Args:
            name: its tidy name.
            original: its name in the archive.
            reason: a key of FAULTS, "" for a member that can be read.
        """
        danger = name_fault(name) or ("" if name not in self.files else "it occurs twice")
        if danger:
            self.dangers.append(f"{original!r}: {danger}")
        elif reason and (self.skip or is_hidden(name)):
            self.passed.append((name, reason))
        elif reason:
            self.faults.append(f"{original!r}: {FAULTS[reason]}")
        return not danger and not reason

    def add_folder(self, name: str, original: str) -> None:
        """Record a folder; an empty class has nothing else."""
        if fault := name_fault(name or "."):
            self.dangers.append(f"{original!r}: {fault}")
        elif name:
            self.folders.add(name)

    def checked(self) -> ArchiveIndex:
        """Return the index; UsageError where the archive cannot be used."""
        if self.dangers:
            count = plural(len(self.dangers), "file")
            raise UsageError(f"{self.path}: {count} cannot be used:{fault_list(self.dangers)}")
        refuse_faults(self.path, "file", self.faults, "cannot be used")
        end = os.path.getsize(self.path)
        beyond = [
            name
            for name, location in self.files.items()
            if location.start + (location.packed or location.size) > end
        ]
        if beyond:
            count = plural(len(beyond), "file")
            raise UsageError(f"{self.path}: truncated: {count} beyond its end, such as {beyond[0]}")
        return self


def zip_index(path: Path, skip: bool = False) -> ArchiveIndex:
    """Return the index of a zip; UsageError where it is invalid.

    A backslash separates folders on every system: some programs for Windows write it.
    """
    kinds = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError)
    with report_errors(path, "not a readable zip archive", kinds), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    index = ArchiveIndex(path, skip)
    has_slashes = any("/" in member.filename for member in members)
    for member in members:
        is_sure = member.flag_bits & UTF8_NAME or not has_slashes
        separator = BACKSLASH if is_sure else SURE_BACKSLASH
        original = separator.sub("/", member.filename)
        name = tidy(original)
        if original.endswith("/"):
            index.add_folder(name, member.filename)
        elif index.admits(name, member.filename, _zip_fault(member)):
            deflated = member.compress_type == zipfile.ZIP_DEFLATED
            index.files[name] = MemberLocation(
                member.header_offset, member.file_size, member.compress_size, deflated, member.CRC
            )
    return index.checked()


def _zip_fault(member: zipfile.ZipInfo) -> str:
    if member.flag_bits & 1:
        return ENCRYPTED
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return COMPRESSION
    if member.create_system == UNIX and stat.S_ISLNK(member.external_attr >> 16):
        return LINK
    return ""


def tar_index(path: Path, skip: bool = False) -> ArchiveIndex:
    """Return the index of a tar; UsageError where it is invalid."""
    index = ArchiveIndex(path, skip)
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = tidy(member.name)
                if member.isdir():
                    index.add_folder(name, member.name)
                elif index.admits(name, member.name, _tar_fault(member)):
                    index.files[name] = MemberLocation(member.offset_data, member.size)
            end = archive.offset
        if not index.faults and not index.dangers:
            _check_end(path, end)
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        reason = "compressed: unpack it" if _is_compressed(path) else error_text(error)
        raise UsageError(f"{path}: not a readable tar archive ({reason})") from error
    return index.checked()


def _tar_fault(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return LINK
    return "" if member.isreg() and member.sparse is None else NOT_PLAIN


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
