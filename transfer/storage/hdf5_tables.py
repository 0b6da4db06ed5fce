"""Tables of rows in HDF5: written by blocks, checksummed, byte for byte the same for the same rows.

Every dataset is chunked by rows and carries fletcher32 checksums; the file format is the latest, whose metadata is
checksummed too. So a flipped byte is an error when it is read, never a wrong number. Nothing is kept where HDF5 has
no checksums: texts of variable length, scalars, attributes above 64 KB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import CorruptArtifact
from transfer.utils.lazy_imports import h5py, np

if TYPE_CHECKING:
    import numpy

CHUNK_BYTES = 1 << 20
FORMAT = ("v110", "v110")  # the same whichever HDF5 writes it, and every later one reads it
MAX_ATTRIBUTE = 32_000  # bytes


class TableWriter:
    """Writes datasets of a known number of rows, block after block.

    with TableWriter(path, rows=n, columns={"features": ((512,), "float16")}) as table:
        table.append(features=block)
    """

    def __init__(
        self,
        path: Path,
        rows: int,
        columns: Mapping[str, tuple[tuple[int, ...], str]],
        **attributes: Any,
    ):
        self._file = h5py.File(path, "w", libver=FORMAT)
        self._done = dict.fromkeys(columns, 0)
        for name, (shape, dtype) in columns.items():
            _create(self._file, name, (rows, *shape), np.dtype(dtype))
        _set_attributes(self._file, attributes)

    def append(self, **blocks: numpy.ndarray) -> None:
        """Write the next rows of each named column."""
        for name, block in blocks.items():
            dataset, start = self._file[name], self._done[name]
            if block.shape[1:] != dataset.shape[1:] or start + len(block) > len(dataset):
                raise ValueError(
                    f"rows {start} + {block.shape} do not fit into '{name}' {dataset.shape}"
                )
            dataset[start : start + len(block)] = block
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
    with h5py.File(path, "w", libver=FORMAT) as file:
        for name, values in columns.items():
            values = np.asarray(values)
            _create(file, name, values.shape, values.dtype)[...] = values
        _set_attributes(file, attributes)


def _create(file: h5py.File, name: str, shape: tuple[int, ...], dtype: numpy.dtype) -> h5py.Dataset:
    if not shape or dtype.hasobject:
        raise ValueError(
            f"column '{name}' must be an array of rows, of numbers or of texts of one length"
        )
    row_bytes = max(1, dtype.itemsize * math.prod(shape[1:]))
    chunk = (max(1, min(shape[0], CHUNK_BYTES // row_bytes)), *shape[1:])
    full = math.prod(shape) > 0  # what holds nothing has no chunks
    return file.create_dataset(
        name, shape, dtype, chunks=chunk if full else None, fletcher32=full, track_times=False
    )


def _set_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        text = json.dumps(value, sort_keys=True).encode()
        if len(text) > MAX_ATTRIBUTE:
            raise ValueError(
                f"attribute '{name}' has {len(text):,} bytes, more than {MAX_ATTRIBUTE:,}: make it a column"
            )
        file.attrs[name] = np.bytes_(text)


def local_member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """The member of `group` called `name`; ValueError where a link or its storage leads out of the group's file."""
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"'{name}' is a link to elsewhere")
    found = group[name]
    if isinstance(found, h5py.Dataset) and (found.is_virtual or found.external):
        raise ValueError(f"'{name}' keeps its data in other files")
    return found


class TableReader:
    """Reads a table. Anything that cannot be read is reported as damage, with the file's name."""

    def __init__(self, path: Path):
        self.path = path
        with self._reading(), h5py.File(path, "r") as file:
            self.attributes = {name: json.loads(value) for name, value in file.attrs.items()}
            columns = {name: local_member(file, name) for name in file}
            self.shapes = {name: tuple(column.shape) for name, column in columns.items()}
            self.dtypes = {name: column.dtype.str for name, column in columns.items()}

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> numpy.ndarray:
        """Rows `start` to `stop` of column `name`."""
        with self._reading(), h5py.File(self.path, "r") as file:
            return local_member(file, name)[start:stop]

    def blocks(self, name: str, rows: int) -> Iterator[tuple[int, numpy.ndarray]]:
        """(first row, block) over the whole column, `rows` at a time: memory does not grow with its length."""
        with self._reading(), h5py.File(self.path, "r") as file:
            column = local_member(file, name)
            for start in range(0, len(column), rows):
                yield start, column[start : start + rows]

    def strings(self, name: str) -> list[str]:
        """A column of UTF-8 bytes as text."""
        values = self.read(name)
        with self._reading():
            return [value.decode("utf-8") for value in values.tolist()]

    def _reading(self) -> _DamageReport:
        return _DamageReport(self.path)


class _DamageReport:
    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        # Besides OSError (checksums), h5py raises any of these for metadata that makes no sense.
        if isinstance(
            error, (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)
        ):
            raise CorruptArtifact(
                self.path.parent, f"{self.path.name} cannot be read ({error})"
            ) from error


def encode_strings(values: list[str]) -> numpy.ndarray:
    """Texts as fixed-length bytes: HDF5 keeps variable-length ones outside of the checksummed chunks."""
    encoded = [value.encode("utf-8") for value in values]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")
