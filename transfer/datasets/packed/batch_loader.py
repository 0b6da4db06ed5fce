"""Batches of a packed set, on the device; the next ones are read while the network runs."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from transfer.datasets.packed.decode_workers import Decoders, Square, wait
from transfer.errors import CorruptArtifact
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.artifacts import Images
    from transfer.utils.runtime import Runtime

PREFETCH = 2  # batches that are read before they are requested
MAX_RESIDENT = 128 << 20  # bytes read of a mapped file before its pages are given back


class Batches:
    """A loader of batches: `each(rows)` yields uint8 (B, 3, S, S) on the device.

    One thread gathers raw sets from the mapped file, without a Python loop over images. Worker
    processes decode JPEG sets, or torchvision does on a GPU. For a GPU, raw batches wait in
    pinned memory and are copied during the computation.
    """

    def __init__(self, images: Images, runtime: Runtime, batch_size: int):
        """Open the files and start the workers.

        Args:
            images: the packed set.
            runtime: the device and the number of threads.
            batch_size: most rows of a batch.
        """
        self.images, self.device, self.batch_size = images, runtime.device, batch_size
        self._open = ExitStack()
        self._start_read: Callable[[int, numpy.ndarray], Callable[[], Tensor]]
        if images.form == "raw":
            self._thread = self._open.enter_context(ThreadPoolExecutor(1))
            self._pixels = MappedImages(images.stored)
            self._start_read = self._gather
        elif self.device.type == "cuda":
            self._thread = self._open.enter_context(ThreadPoolExecutor(1))
            self._start_read = self._decode_on_gpu
        else:
            slots = PREFETCH + 1
            decoders = Decoders(
                lambda row: Square(images.picture(row)),
                images.size,
                batch_size,
                slots,
                runtime.threads,
                len(images),
            )
            self._decoders = self._open.enter_context(decoders)
            self._start_read = self._decode
        shape = (batch_size, images.size, images.size, 3)
        pinned = self.device.type == "cuda" and images.form == "raw"
        self._pinned = [
            torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            for _ in range(pinned * (PREFETCH + 1))
        ]
        # For each pinned slot, when its last copy to the device is complete.
        self._copied: list[torch.cuda.Event | None] = [None] * len(self._pinned)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def each(self, requested: Iterable[numpy.ndarray]) -> Iterator[Tensor]:
        """Yield one batch for each array of rows; ascending rows read a mapped file forwards."""
        pending: deque[Callable[[], Tensor]] = deque()
        for number, rows in enumerate(requested):
            pending.append(self._start_read(number % (PREFETCH + 1), rows))
            if len(pending) > PREFETCH:
                yield pending.popleft()()
        while pending:
            yield pending.popleft()()

    def _gather(self, slot: int, rows: numpy.ndarray) -> Callable[[], Tensor]:
        if self.images.places is not None:
            rows = self.images.places[rows]
        if not self._pinned:
            batch = torch.empty((len(rows), *self._pixels.array.shape[1:]), dtype=torch.uint8)
            gathering = self._thread.submit(self._pixels.take, rows, batch)
            return lambda: gathering.result().to(self.device).permute(0, 3, 1, 2)
        reading = self._thread.submit(self._gather_pinned, slot, rows)
        return lambda: self._copy(slot, reading)

    def _gather_pinned(self, slot: int, rows: numpy.ndarray) -> Tensor:
        if (copied := self._copied[slot]) is not None:
            copied.synchronize()  # the slot's previous batch must have reached the device
        return self._pixels.take(rows, self._pinned[slot][: len(rows)])

    def _copy(self, slot: int, reading: Future[Tensor]) -> Tensor:
        images = reading.result().to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        copied = torch.cuda.Event()
        copied.record()
        self._copied[slot] = copied
        return images

    def _decode(self, slot: int, rows: numpy.ndarray) -> Callable[[], Tensor]:
        loading = self._decoders.load(slot, rows.tolist())

        def finish() -> Tensor:
            if faults := wait(loading):
                place, outcome = next(iter(faults.items()))
                raise CorruptArtifact(
                    self.images.folder,
                    f"images.bin: {self.images.ids[rows[place]]}: {outcome.fault}",
                )
            # Copied, because the slot is filled again while this batch is in use.
            squares = torch.from_numpy(self._decoders.slots[slot][: len(rows)].copy())
            return squares.to(self.device).permute(0, 3, 1, 2)

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

            pictures = decode_jpeg(reading.result(), mode=ImageReadMode.RGB, device=self.device)
            return torch.stack(list(pictures))

        return finish


class MappedImages:
    """A mapped array whose pages are given back after `MAX_RESIDENT` bytes were read.

    Otherwise the memory of the process would grow with the set.
    """

    def __init__(self, array: numpy.ndarray):
        """Map the file of `array`, a memmap, a second time."""
        assert isinstance(array, np.memmap), "raw sets are mapped"
        assert array.filename is not None, "raw sets are mapped from a file"
        with open(array.filename, "rb") as file:
            self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.array = np.ndarray(array.shape, array.dtype, self._mapping, array.offset)
        self._bytes_read = 0

    def take(self, rows: numpy.ndarray, out: Tensor) -> Tensor:
        """Copy `rows` into `out`, and return it."""
        # Of numpy's modes, only `clip` writes to `out` without a temporary copy.
        np.take(self.array, rows, 0, out=out.numpy(), mode="clip")
        self._bytes_read += out.numel()
        if self._bytes_read > MAX_RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)
            self._bytes_read = 0
        return out
