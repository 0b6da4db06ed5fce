"""The files of packed images, written block by block, so that an interrupted packing resumes."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from transfer.utils.files import flush
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy


class PackedFile(Protocol):
    """A writer: `start` or `resume`, then `append` and `flushed` for each block, then `finish`."""

    def start(self) -> None:
        """Begin with no images."""
        ...

    def resume(self, saved: dict[str, Any]) -> bool:
        """Continue after the images of `saved`, the last result of `flushed`.

        Return False if their bytes are missing; then call `start`.
        """
        ...

    def append(self, pictures: Sequence[numpy.ndarray | bytes]) -> None:
        """Write squares after the ones before."""
        ...

    def flushed(self) -> dict[str, Any]:
        """Wait until all squares are on the disk, and return what `resume` needs."""
        ...

    def finish(self, folder: Path) -> None:
        """Move the complete files into the artifact's folder."""
        ...


def _open(path: Path, mode: str) -> IO[bytes]:
    return open(path, mode)  # closed by `finish`, or with the process


def _flush(file: IO[bytes], path: Path) -> None:
    file.flush()
    flush(path)


class RawFile:
    """A writer of pixels: `images.npy`, (N, S, S, 3) uint8, to be mapped into memory."""

    def __init__(self, drafts: Path, count: int, size: int):
        """Reserve the header.

        Args:
            drafts: folder of the unfinished file.
            count: the largest number of images.
            size: side of an image in px.
        """
        self.path, self.size, self.written = drafts / "images.npy", size, 0
        self.start_of_pixels = len(self._header(count))
        self.file: IO[bytes]

    def start(self) -> None:
        self.file = _open(self.path, "wb")
        self.file.seek(self.start_of_pixels)

    def resume(self, saved: dict[str, Any]) -> bool:
        self.written = saved["written"]
        end = self.start_of_pixels + self.written * self.size * self.size * 3
        if not self.path.exists() or self.path.stat().st_size < end:
            self.written = 0
            return False
        self.file = _open(self.path, "r+b")
        self.file.seek(end)
        self.file.truncate()
        return True

    def append(self, pictures: Sequence[numpy.ndarray | bytes]) -> None:
        for picture in pictures:
            self.file.write(np.ascontiguousarray(picture).data)
        self.written += len(pictures)

    def flushed(self) -> dict[str, Any]:
        _flush(self.file, self.path)
        return {"written": self.written}

    def finish(self, folder: Path) -> None:
        # The header is written last, when the number of images is known. numpy pads it, so that
        # its length is the same for any number.
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
    """A writer of JPEG: `images.bin`, all bytes, and `offsets.npy`, (N + 1,) int64 starts."""

    def __init__(self, drafts: Path, count: int, size: int):
        """Name the unfinished files in `drafts`; number and size of the images are not needed."""
        self.path, self.starts = drafts / "images.bin", drafts / "offsets.bin"
        self.file: IO[bytes]
        self.ends: IO[bytes]

    def start(self) -> None:
        self.file, self.ends = _open(self.path, "wb"), _open(self.starts, "wb")

    def resume(self, saved: dict[str, Any]) -> bool:
        places = ((self.path, saved["bytes"]), (self.starts, 8 * saved["written"]))
        if not all(path.exists() and path.stat().st_size >= end for path, end in places):
            return False
        self.file, self.ends = _open(self.path, "r+b"), _open(self.starts, "r+b")
        for file, (_, end) in zip((self.file, self.ends), places, strict=True):
            file.seek(end)
            file.truncate()
        return True

    def append(self, pictures: Sequence[numpy.ndarray | bytes]) -> None:
        ends = []
        for picture in pictures:
            assert isinstance(picture, bytes), "squares are encoded before they are appended"
            self.file.write(picture)
            ends.append(self.file.tell())
        self.ends.write(np.array(ends, dtype="<i8").tobytes())

    def flushed(self) -> dict[str, Any]:
        _flush(self.file, self.path)
        _flush(self.ends, self.starts)
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
