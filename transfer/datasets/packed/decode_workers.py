"""Several processes that decode images into memory shared with this one: for packing, and for JPEG batches."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from transfer.errors import BadImage
from transfer.utils.lazy_imports import np
from transfer.utils.process_pool import CAN_FORK, forked_pool, pool_errors

if TYPE_CHECKING:
    import numpy

    Square = Callable[[int], numpy.ndarray | bytes]

FORKING = 256  # images from which processes pay for their start
CHUNK = 16  # images a task

# Place in the slot -> what is wrong with the image, or its bytes where it was encoded.
Told: TypeAlias = "dict[int, str | bytes]"

_adopted: Decoders | None = None


class Decoders:
    """`load(slot, rows)` fills a slot of shared memory with the squares of `rows`, in the background.

    Processes are forked, so that what reads a set (open archives, listings of a million names) is simply there; where
    that is not possible, or for few images, threads do the same (decoders release the interpreter).
    """

    def __init__(
        self, square: Square, size: int, block: int, slots: int, workers: int, images: int
    ):
        """square: row -> (size, size, 3) uint8, or bytes; BadImage where it has neither. A slot holds `block`."""
        self.square = square
        shape = (block, size, size, 3)
        length = block * size * size * 3
        self.slots = [
            np.frombuffer(mmap.mmap(-1, length), dtype=np.uint8).reshape(shape)
            for _ in range(slots)
        ]
        self._pool: Executor
        self._task: Callable[[int, int, Sequence[int]], Told]
        if workers > 1 and images >= FORKING and CAN_FORK:
            self._pool, self._task = forked_pool(workers, _adopt, self), _fill
        else:
            self._pool, self._task = ThreadPoolExecutor(max(1, workers)), self.fill

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def load(self, slot: int, rows: Sequence[int]) -> list[Future[Told]]:
        """Start filling `slot`; `wait` for what comes back."""
        starts = range(0, len(rows), CHUNK)
        return [
            self._pool.submit(self._task, slot, start, rows[start : start + CHUNK])
            for start in starts
        ]

    def fill(self, slot: int, first: int, rows: Sequence[int]) -> Told:
        """Decode `rows` into `slot` from place `first` on."""
        told: Told = {}
        for place, row in enumerate(rows, first):
            try:
                picture = self.square(row)
            except (BadImage, OSError) as error:
                told[place] = str(error)
                continue
            if isinstance(picture, bytes):
                told[place] = picture
            else:
                self.slots[slot][place] = picture
        return told


def wait(loading: list[Future[Told]]) -> Told:
    """The end of a load."""
    with pool_errors("decodes images"):
        return {place: what for future in loading for place, what in future.result().items()}


def _adopt(decoders: Decoders) -> None:
    """In a forked process: what `_fill` works on."""
    global _adopted
    _adopted = decoders


def _fill(slot: int, first: int, rows: Sequence[int]) -> Told:
    return _adopted.fill(slot, first, rows)
