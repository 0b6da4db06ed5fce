"""Files: what tells that one may have changed, and what its bytes are."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

TICK = 50_000_000  # ns: more than the step of file systems' clocks


def file_stamp(path: Path) -> list[int]:
    """What tells that a file may have changed; the time of the last status change cannot be set back by hand."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file")
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def hash_file(path: Path) -> tuple[str, int]:
    """(sha256, size) of a file."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size
