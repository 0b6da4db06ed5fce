"""Batches of a packed set, on the device; the next ones are read while the network is busy with this one."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from transfer.datasets.packed.decode_workers import Decoders, wait
from transfer.errors import CorruptArtifact
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.artifacts import Images
    from transfer.utils.runtime import Runtime

AHEAD = 2  # batches that are read before they are asked for
KEPT = (
    128 << 20
)  # bytes of the mapped file that are held at most, so that memory does not grow with the set


class Batches:
    """`each(rows)` yields uint8 (B, 3, S, S) on the device for every array of rows, in their order.

    Raw sets are gathered from the mapped file by one thread: no image is touched by Python. JPEG sets are decoded by
    worker processes, or by torchvision on a GPU. For a GPU, batches wait in pinned memory and are copied beside the
    computation.
    """

    def __init__(self, images: Images, runtime: Runtime, batch: int):
        """batch_size: the most rows that will be asked for at once."""
        self.images, self.device, self.batch = images, runtime.device, batch
        self._open = ExitStack()
        self._read: Callable[[int, numpy.ndarray], Callable[[], Tensor]]
        if images.form == "raw":
            self._thread = self._open.enter_context(ThreadPoolExecutor(1))
            self._pixels = MappedImages(images.stored)
            self._read = self._gather
        elif self.device.type == "cuda":
            self._thread = self._open.enter_context(ThreadPoolExecutor(1))
            self._read = self._decode_on_gpu
        else:
            slots = AHEAD + 1
            decoders = Decoders(
                images.picture, images.size, batch, slots, runtime.threads, len(images)
            )
            self._decoders = self._open.enter_context(decoders)
            self._read = self._decode
        shape = (batch, images.size, images.size, 3)
        pinned = self.device.type == "cuda" and images.form == "raw"
        self._pinned = [
            torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            for _ in range(pinned * (AHEAD + 1))
        ]
        self._copied: list[torch.cuda.Event | None] = [None] * len(self._pinned)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def each(self, wanted: Iterable[numpy.ndarray]) -> Iterator[Tensor]:
        """One batch for each array of rows; rows in rising order read the mapped file forwards."""
        coming: deque[Callable[[], Tensor]] = deque()
        for number, rows in enumerate(wanted):
            coming.append(self._read(number % (AHEAD + 1), rows))
            if len(coming) > AHEAD:
                yield coming.popleft()()
        while coming:
            yield coming.popleft()()

    def _gather(self, slot: int, rows: numpy.ndarray) -> Callable[[], Tensor]:
        if self.images.places is not None:
            rows = self.images.places[rows]
        if not self._pinned:
            place = torch.empty((len(rows), *self._pixels.array.shape[1:]), dtype=torch.uint8)
            gathering = self._thread.submit(self._pixels.take, rows, place)
            return lambda: gathering.result().to(self.device).permute(0, 3, 1, 2)
        reading = self._thread.submit(self._gather_pinned, slot, rows)
        return lambda: self._copy(slot, reading)

    def _gather_pinned(self, slot: int, rows: numpy.ndarray) -> Tensor:
        if (copied := self._copied[slot]) is not None:
            copied.synchronize()  # what lay here before has reached the device
        return self._pixels.take(rows, self._pinned[slot][: len(rows)])

    def _copy(self, slot: int, reading: Future[Tensor]) -> Tensor:
        images = reading.result().to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        self._copied[slot] = torch.cuda.Event()
        self._copied[slot].record()
        return images

    def _decode(self, slot: int, rows: numpy.ndarray) -> Callable[[], Tensor]:
        loading = self._decoders.load(slot, rows.tolist())

        def finish() -> Tensor:
            if told := wait(loading):
                place, fault = next(iter(told.items()))
                raise CorruptArtifact(
                    self.images.folder, f"images.bin: {self.images.ids[rows[place]]}: {fault!s}"
                )
            # A copy: the slot is filled anew while this batch is in use.
            return (
                torch.from_numpy(self._decoders.slots[slot][: len(rows)].copy())
                .to(self.device)
                .permute(0, 3, 1, 2)
            )

        return finish

    def _decode_on_gpu(self, slot: int, rows: numpy.ndarray) -> Callable[[], Tensor]:
        def read() -> list[Tensor]:
            return [
                torch.frombuffer(bytearray(self.images.encoded(row)), dtype=torch.uint8)
                for row in rows
            ]

        reading = self._thread.submit(read)

        def finish() -> Tensor:
            from torchvision.io import ImageReadMode, decode_jpeg

            return torch.stack(
                decode_jpeg(reading.result(), mode=ImageReadMode.RGB, device=self.device)
            )

        return finish


class MappedImages:
    """A mapped array whose pages are given back after `KEPT` bytes were read."""

    def __init__(self, array: numpy.memmap):
        with open(array.filename, "rb") as file:
            self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.array = np.ndarray(array.shape, array.dtype, self._mapping, array.offset)
        self._read = 0

    def take(self, rows: numpy.ndarray, place: Tensor) -> Tensor:
        """Copy `rows` into `place`, and return that."""
        np.take(
            self.array, rows, 0, out=place.numpy(), mode="clip"
        )  # another mode would go through a copy
        self._read += place.numel()
        if self._read > KEPT and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)
            self._read = 0
        return place
