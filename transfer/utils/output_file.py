"""An output file: what a command writes for its user, at a path that the user names."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from transfer.errors import TransferError
from transfer.utils.files import full_disk, write_atomic


def write_output(path: Path, content: str | bytes) -> None:
    """Write a file in one step: after a failure, an earlier file is there as it was.

    A link stays a link, and a file that is replaced keeps its permissions.

    Raises:
        TransferError: the disk is full, or the file cannot be written.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    target = Path(os.path.realpath(path))
    is_special = path.exists() and not path.is_file()  # a pipe, or a device such as /dev/stdout
    closed_folder = target.is_file() and not os.access(target.parent, os.W_OK)
    try:
        if is_special or closed_folder:
            path.write_bytes(data)
        else:
            _replace(target, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        problem = full_disk(error, target.parent) or f"cannot be written: {error.strerror}"
        kept = "; the earlier file is kept" if target.is_file() and not closed_folder else ""
        raise TransferError(f"{path}: {problem}{kept}") from error


def _replace(target: Path, data: bytes) -> None:
    earlier = target.stat() if target.exists() else None
    if earlier is not None:
        target.open("ab").close()  # replacing needs no right to write, but a user expects it to

    def write(draft: Path) -> None:
        if earlier is None:
            draft.write_bytes(data)
            return
        draft.touch(0o600)
        draft.write_bytes(data)
        with suppress(OSError):  # only the superuser can give a file away
            os.chown(draft, earlier.st_uid, earlier.st_gid)
        draft.chmod(earlier.st_mode & 0o777)

    write_atomic(target, write)
