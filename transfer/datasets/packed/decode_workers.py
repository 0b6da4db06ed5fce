"""Workers that decode images into shared memory, to pack a set or to read JPEG batches."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from transfer.errors import BadImage
from transfer.utils.lazy_imports import np
from transfer.utils.process_pool import CAN_FORK, forked_pool, pool_errors

if TYPE_CHECKING:
    import numpy

MIN_IMAGES_TO_FORK = 256  # fewer images do not pay for the start of processes
IMAGES_PER_TASK = 16


class Square(NamedTuple):
    """An image as (S, S, 3) uint8 or as encoded bytes, and remarks on it."""

    content: numpy.ndarray | bytes
    remarks: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """A fault of an image, or its encoded bytes, and remarks on it."""

    fault: str = ""
    encoded: bytes | None = None
    remarks: tuple[str, ...] = ()


ReadSquare: TypeAlias = "Callable[[int], Square]"
# Place in the slot -> its outcome; none for an image of which only the pixels matter.
Outcomes: TypeAlias = "dict[int, Outcome]"

_decoders_of_process: Decoders | None = None


class Decoders:
    """Workers that fill slots of shared memory with the squares of rows, in the background.

    Workers are forked processes, which share what reads a set (open archives, listings of a
    million names). For few images, or where forking is unsafe, they are threads: decoders release
    the interpreter.
    """

    def __init__(
        self, square: ReadSquare, size: int, block: int, slots: int, workers: int, images: int
    ):
        """Allocate the slots and start the pool.

        Args:
            square: row -> its square; raises BadImage or OSError for an image without one.
            size: side of a square in px.
            block: squares of a slot.
            slots: number of slots.
            workers: number of workers.
            images: images that will be decoded in all, which decides between processes and threads.
        """
        # Pillow warns of damaged metadata, without the name of the image; faults are reported.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        self.square = square
        shape = (block, size, size, 3)
        length = block * size * size * 3
        self.slots = [
            np.frombuffer(mmap.mmap(-1, length), dtype=np.uint8).reshape(shape)
            for _ in range(slots)
        ]
        self._pool: Executor
        self._task: Callable[[int, int, Sequence[int]], Outcomes]
        if workers > 1 and images >= MIN_IMAGES_TO_FORK and CAN_FORK:
            self._pool, self._task = forked_pool(workers, _adopt, self), _fill_in_process
        else:
            self._pool, self._task = ThreadPoolExecutor(max(1, workers)), self.fill

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def load(self, slot: int, rows: Sequence[int]) -> list[Future[Outcomes]]:
        """Start filling `slot`; `wait` collects the outcomes."""
        return [
            self._pool.submit(self._task, slot, start, rows[start : start + IMAGES_PER_TASK])
            for start in range(0, len(rows), IMAGES_PER_TASK)
        ]

    def fill(self, slot: int, first: int, rows: Sequence[int]) -> Outcomes:
        """Decode `rows` into `slot` from the place `first` on."""
        outcomes: Outcomes = {}
        for place, row in enumerate(rows, first):
            try:
                content, remarks = self.square(row)
            except (BadImage, OSError) as error:
                outcomes[place] = Outcome(fault=str(error))
                continue
            if isinstance(content, bytes):
                outcomes[place] = Outcome(encoded=content, remarks=remarks)
            else:
                self.slots[slot][place] = content
                if remarks:
                    outcomes[place] = Outcome(remarks=remarks)
        return outcomes


def wait(loading: list[Future[Outcomes]]) -> Outcomes:
    """Wait for a load and return its outcomes; TransferError if a worker was killed."""
    with pool_errors("decodes images"):
        return {place: outcome for future in loading for place, outcome in future.result().items()}


def _adopt(decoders: Decoders) -> None:
    """Keep the decoders of a forked process for `_fill_in_process`."""
    global _decoders_of_process
    _decoders_of_process = decoders


def _fill_in_process(slot: int, first: int, rows: Sequence[int]) -> Outcomes:
    assert _decoders_of_process is not None, "the pool calls `_adopt` first"
    return _decoders_of_process.fill(slot, first, rows)
