"""Forked worker processes. They share the parent's open files, and leave signals to the parent."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from transfer.errors import TransferError

# Elsewhere the threads of system libraries do not survive a fork.
CAN_FORK = sys.platform == "linux"


def forked_pool(
    workers: int, initializer: Callable[..., None] | None = None, *arguments: Any
) -> ProcessPoolExecutor:
    """Make a pool whose processes are forked with the first tasks.

    Args:
        workers: number of processes.
        initializer: called first in each process.
        arguments: for the initializer; forking shares them without a copy.
    """
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_start_worker,
        initargs=(initializer, arguments),
    )


@contextmanager
def pool_errors(activity: str) -> Iterator[None]:
    """Raise TransferError if a process of the pool is killed.

    Args:
        activity: what the process does, as in "decodes images".
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise TransferError(
            f"a process that {activity} was killed from outside, perhaps for lack of memory; "
            "run the same command again with fewer --threads"
        ) from error


def _start_worker(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if initializer is not None:
        initializer(*arguments)
