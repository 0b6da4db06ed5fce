"""Tables of rows in HDF5: written by blocks, checksummed, byte for byte the same for the same rows.

Every dataset is chunked by rows and carries fletcher32 checksums; the file format is the latest, whose metadata is
checksummed too. So a flipped byte is an error when it is read, never a wrong number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import Damaged
from transfer.lazy import h5py, np

if TYPE_CHECKING:
    import numpy

CHUNK_BYTES = 1 << 20


class TableWriter:
    """Writes datasets of a known number of rows, block after block.

    with TableWriter(path, rows=n, columns={"features": ((512,), "float16")}) as table:
        table.append(features=block)
    """

    def __init__(self, path: Path, rows: int, columns: Mapping[str, tuple[tuple[int, ...], str]], **attributes: Any):
        self._file = h5py.File(path, "w", libver="latest")
        self._done = dict.fromkeys(columns, 0)
        for name, (shape, dtype) in columns.items():
            row_bytes = max(1, int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64)))
            chunk = (max(1, min(rows, CHUNK_BYTES // row_bytes)), *shape)
            self._file.create_dataset(
                name,
                (rows, *shape),
                dtype,
                chunks=chunk if rows else None,
                fletcher32=bool(rows),
                track_times=False,
            )
        for name, value in attributes.items():
            self._file.attrs[name] = json.dumps(value, sort_keys=True)

    def append(self, **blocks: numpy.ndarray) -> None:
        """Write the next rows of each named column."""
        for name, block in blocks.items():
            start = self._done[name]
            self._file[name][start : start + len(block)] = block
            self._done[name] = start + len(block)

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *error: object) -> None:
        short = [name for name, done in self._done.items() if done != len(self._file[name])]
        self._file.close()
        if short and error[0] is None:
            raise ValueError(f"rows are missing in {', '.join(short)}")


def write_table(path: Path, columns: Mapping[str, numpy.ndarray], **attributes: Any) -> None:
    """Write whole arrays, a dataset each; the columns may differ in their number of rows."""
    with h5py.File(path, "w", libver="latest") as file:
        for name, values in columns.items():
            values = np.asarray(values)
            chunked = values.ndim > 0 and len(values) > 0
            row_bytes = max(1, values.nbytes // len(values)) if chunked else 1
            chunks = (max(1, min(len(values), CHUNK_BYTES // row_bytes)), *values.shape[1:]) if chunked else None
            file.create_dataset(name, data=values, chunks=chunks, fletcher32=chunked, track_times=False)
        for name, value in attributes.items():
            file.attrs[name] = json.dumps(value, sort_keys=True)


class Table:
    """Reads a table. Anything that cannot be read is reported as damage, with the file's name."""

    def __init__(self, path: Path):
        self.path = path
        with self._reading(), h5py.File(path, "r") as file:
            self.attributes = {name: json.loads(value) for name, value in file.attrs.items()}
            self.shapes = {name: tuple(dataset.shape) for name, dataset in file.items()}
            self.dtypes = {name: dataset.dtype.str for name, dataset in file.items()}

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> numpy.ndarray:
        """Rows `start` to `stop` of column `name`."""
        with self._reading(), h5py.File(self.path, "r") as file:
            return file[name][start:stop]

    def blocks(self, name: str, rows: int) -> Iterator[tuple[int, numpy.ndarray]]:
        """(first row, block) over the whole column, `rows` at a time: memory does not grow with its length."""
        with self._reading(), h5py.File(self.path, "r") as file:
            for start in range(0, self.shapes[name][0], rows):
                yield start, file[name][start : start + rows]

    def strings(self, name: str) -> list[str]:
        """A column of UTF-8 bytes as text."""
        return [value.decode("utf-8") for value in self.read(name).tolist()]

    def _reading(self) -> _DamageReport:
        return _DamageReport(self.path)


class _DamageReport:
    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        # Besides OSError (checksums), h5py raises any of these for metadata that makes no sense.
        if isinstance(error, (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)):
            raise Damaged(self.path.parent, f"{self.path.name} cannot be read ({error})") from error


def encode_strings(values: list[str]) -> numpy.ndarray:
    """Texts as fixed-length bytes: HDF5 keeps variable-length ones outside of the checksummed chunks."""
    encoded = [value.encode("utf-8") for value in values]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")
