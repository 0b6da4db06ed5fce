"""Locks of the store: files that the kernel unlocks when the process that holds them ends."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transfer.errors import LockHeld, UsageError

POLL_SECONDS = 0.2


@contextmanager
def hold_lock(
    path: Path, *, wait: bool, waiting: Callable[[str], None], pause_point: Callable[[], None]
) -> Iterator[None]:
    """Hold the lock in a file; a file beside it describes the holder.

    Args:
        path: the lock file; its folder is made.
        wait: wait for another holder; False raises LockHeld instead.
        waiting: called once, before waiting, with a description of the holder.
        pause_point: called while waiting; it may raise.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".holder")
    lock, reported = FileLock(path), False
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            name = _read_text(holder) or "another process"
            if not wait:
                raise LockHeld(f"held by {name}, and --no-wait was given") from None
            if not reported:
                waiting(name)
                reported = True
            pause_point()
            time.sleep(POLL_SECONDS)
    try:
        since = time.strftime("%H:%M:%S")
        text = f"process {os.getpid()} on {socket.gethostname()}, since {since}"
        holder.write_text(text, encoding="utf-8", errors="backslashreplace")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Raise UsageError, with the remedy, where a store cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        problem = f"the store cannot be written ({error.strerror})"
        remedy = "choose another folder with --store or TRANSFER_STORE"
        raise UsageError(f"{root}: {problem}; {remedy}") from error


def is_locked(path: Path) -> bool:
    """Whether a running process holds the lock in a file."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a read-only store, where nothing runs
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
