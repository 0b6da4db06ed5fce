"""Forked worker processes: what the parent has open is simply there in them, and signals are the parent's to answer."""

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

CAN_FORK = (
    sys.platform == "linux"
)  # elsewhere threads of the system's own libraries do not survive it


def forked_pool(
    workers: int, adopt: Callable[..., None] | None = None, *handed: Any
) -> ProcessPoolExecutor:
    """A pool of processes, forked with the first tasks; each calls `adopt(*handed)` first, which copies nothing."""
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin,
        initargs=(adopt, handed),
    )


@contextmanager
def pool_errors(what: str) -> Iterator[None]:
    """Around waiting for a pool: TransferError if one of its processes was killed; `what` is as in "decodes images"."""
    try:
        yield
    except BrokenProcessPool as error:
        raise TransferError(
            f"a process that {what} was killed from outside, perhaps for lack of memory: "
            "run the same command again, with fewer --threads"
        ) from error


def _begin(adopt: Callable[..., None] | None, handed: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if adopt is not None:
        adopt(*handed)
