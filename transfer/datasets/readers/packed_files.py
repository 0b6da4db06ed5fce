"""Files that are gzipped, or still in the tar archive in which a dataset is downloaded."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from transfer.datasets.readers.member_names import name_fault, tidy
from transfer.datasets.readers.read_errors import report_errors
from transfer.errors import UsageError

MAX_UNPACKED = 1 << 30  # bytes that are unpacked into memory


def gunzip(path: Path) -> bytes:
    """Return the content of a .gz file; UsageError where it is damaged or large."""
    kinds = (OSError, EOFError, zlib.error)
    with report_errors(path, "not a complete .gz file", kinds), gzip.open(path, "rb") as file:
        data = file.read(MAX_UNPACKED + 1)
    if len(data) > MAX_UNPACKED:
        limit = f"{MAX_UNPACKED >> 30} GiB"
        raise UsageError(f"{path} unpacks to more than {limit}: unpack it (gunzip)")
    return data


def extract(path: Path, requested: Iterable[str], roots: Iterable[str]) -> dict[str, bytes]:
    """Return the content of a few files of a tar, compressed or not.

    The archive is read from its beginning to its end, into memory. UsageError where a file is
    missing, is a link or leads out of the archive, and where the archive is damaged or large.

    Args:
        path: the archive.
        requested: names of the files.
        roots: folders of the archive that the files may lie in, besides its top.
    """
    requested = list(requested)
    names = {
        f"{root}/{name}" if root else name: name for name in requested for root in (*roots, "")
    }
    contents: dict[str, bytes] = {}
    remaining = MAX_UNPACKED
    kinds = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError)
    problem = "not a complete tar archive"
    with (
        report_errors(path, problem, kinds),
        tarfile.open(path, "r:*") as archive,
    ):
        for member in archive:
            name = tidy(member.name)
            if fault := name_fault(name):
                raise UsageError(f"{path} holds {member.name!r}: {fault}")
            if name not in names:
                continue
            file = archive.extractfile(member) if member.isreg() else None
            if file is None:
                raise UsageError(f"{path} holds {member.name!r}: it is not a plain file")
            remaining -= member.size
            if remaining < 0:
                command = f"tar xf {path.name}"
                raise UsageError(f"{path} is too large to be read packed: unpack it ({command})")
            contents[names[name]] = file.read()
    if missing := [name for name in requested if name not in contents]:
        raise UsageError(f"{path} has no {missing[0]}")
    return contents


def find_file(folder: Path, name: str, roots: Iterable[str]) -> str | None:
    """Return the name below `folder` of a file that may lie in one of `roots`, plain or as .gz."""
    for root in (*roots, ""):
        for suffix in ("", ".gz"):
            candidate = f"{root}/{name}{suffix}" if root else name + suffix
            if os.path.isfile(folder / candidate):
                return candidate
    return None
