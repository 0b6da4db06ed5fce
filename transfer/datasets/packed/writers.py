"""The files that packed images lie in, written block by block, so that an interrupted packing goes on."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy


class PackedFile(Protocol):
    """`start` or `resume`, then `append` and `flushed` for each block, then `finish`."""

    def start(self) -> None: ...

    def resume(self, saved: dict[str, Any]) -> bool:
        """Go on after what `flushed` told last; False where that is no longer there."""
        ...

    def append(self, pictures: Sequence[numpy.ndarray | bytes]) -> None: ...

    def flushed(self) -> dict[str, Any]:
        """What has been appended is safely on disk; what `resume` needs to know."""
        ...

    def finish(self, folder: Path) -> None: ...


def _opened(path: Path, mode: str) -> IO[bytes]:
    return open(path, mode)  # closed by `finish`, or with the process


class RawFile:
    """`images.npy`: (N, S, S, 3) uint8, to be mapped into memory."""

    def __init__(self, drafts: Path, count: int, size: int):
        """count: how many there will be at most."""
        self.path, self.size, self.written = drafts / "images.npy", size, 0
        self.start_of_pixels = len(self._header(count))
        self.file: IO[bytes]

    def start(self) -> None:
        self.file = _opened(self.path, "wb")
        self.file.seek(self.start_of_pixels)

    def resume(self, saved: dict[str, Any]) -> bool:
        self.written = saved["written"]
        end = self.start_of_pixels + self.written * self.size * self.size * 3
        if not self.path.exists() or self.path.stat().st_size < end:
            self.written = 0
            return False
        self.file = _opened(self.path, "r+b")
        self.file.seek(end)
        self.file.truncate()
        return True

    def append(self, pictures: Sequence[numpy.ndarray | bytes]) -> None:
        for picture in pictures:
            self.file.write(np.ascontiguousarray(picture).data)
        self.written += len(pictures)

    def flushed(self) -> dict[str, Any]:
        _sync(self.file)
        return {"written": self.written}

    def finish(self, folder: Path) -> None:
        # The header comes last: only now is it known how many there are. numpy pads it for a growing first axis.
        self.file.seek(0)
        self.file.write(self._header(self.written))
        self.file.close()
        shutil.move(self.path, folder / "images.npy")

    def _header(self, count: int) -> bytes:
        header = io.BytesIO()
        facts = {"descr": "|u1", "fortran_order": False, "shape": (count, self.size, self.size, 3)}
        np.lib.format.write_array_header_1_0(header, facts)
        return header.getvalue()


class JpegFile:
    """`images.bin`: JPEG bytes end to end; `offsets.npy`: (N + 1,) int64, where each begins."""

    def __init__(self, drafts: Path, count: int, size: int):
        self.path, self.starts = drafts / "images.bin", drafts / "offsets.bin"
        self.file: IO[bytes]
        self.ends: IO[bytes]

    def start(self) -> None:
        self.file, self.ends = _opened(self.path, "wb"), _opened(self.starts, "wb")

    def resume(self, saved: dict[str, Any]) -> bool:
        places = ((self.path, saved["bytes"]), (self.starts, 8 * saved["written"]))
        if not all(path.exists() and path.stat().st_size >= end for path, end in places):
            return False
        self.file, self.ends = _opened(self.path, "r+b"), _opened(self.starts, "r+b")
        for file, (_, end) in zip((self.file, self.ends), places, strict=True):
            file.seek(end)
            file.truncate()
        return True

    def append(self, pictures: Sequence[numpy.ndarray | bytes]) -> None:
        ends = []
        for picture in pictures:
            self.file.write(picture)
            ends.append(self.file.tell())
        self.ends.write(np.array(ends, dtype="<i8").tobytes())

    def flushed(self) -> dict[str, Any]:
        _sync(self.file)
        _sync(self.ends)
        return {"bytes": self.file.tell(), "written": self.ends.tell() // 8}

    def finish(self, folder: Path) -> None:
        self.file.close()
        self.ends.close()
        ends = np.fromfile(self.starts, dtype="<i8")
        shutil.move(self.path, folder / "images.bin")
        np.save(
            folder / "offsets.npy",
            np.concatenate([np.zeros(1, np.int64), ends]),
            allow_pickle=False,
        )
        self.starts.unlink()


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
