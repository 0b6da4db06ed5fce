"""Files: atomic writes, stamps that detect changes, digests, and full disks."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

TICK = 50_000_000  # ns: longer than the step of file systems' clocks
FULL = 1 << 20  # bytes: a disk with less free space counts as full


def write_atomic(
    path: Path, content: str | bytes | Callable[[Path], object], durable: bool = False
) -> None:
    """Write a file in one step: after a kill, the old file or the new one is there in full.

    Args:
        path: the file; its folder must exist.
        content: text (written as UTF-8), bytes, or a function that writes to the path it is given.
        durable: flush the file and its folder to the disk before returning.
    """
    # Cut, since a name that is as long as the file system allows would be too long with more.
    draft = path.with_name(f".{path.name[:50]}.{os.getpid()}.draft")
    try:
        if callable(content):
            content(draft)
        elif isinstance(content, str):
            draft.write_bytes(content.encode("utf-8", "backslashreplace"))
        else:
            draft.write_bytes(content)
        if durable:
            flush(draft)
        os.replace(draft, path)
        if durable:
            flush(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_stamp(path: Path) -> list[int]:
    """Return size, times and inode of a file: equal stamps mean unchanged bytes.

    They include the time of the last status change, which cannot be set by hand. OSError if the
    path is not a regular file.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file")
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def hash_file(path: Path) -> tuple[str, int]:
    """Return the sha256 of a file, and its size in bytes."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system that holds `path`, or will hold it."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def full_disk(error: BaseException, path: Path) -> str:
    """Describe the full disk that caused `error`; empty if the disk at `path` has space.

    Libraries often hide the cause, so the free space is checked too.
    """
    free = free_bytes(path)
    no_space = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if free >= FULL and not no_space:
        return ""
    return f"the disk is full ({free:,} bytes free at {path})"
