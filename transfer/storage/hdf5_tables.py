"""Tables of rows in HDF5: written by blocks, with checksums, in equal bytes for equal rows.

Every dataset is chunked by rows and carries fletcher32 checksums. The file format is the latest,
whose metadata has checksums too. So a flipped byte raises an error when it is read; it never gives
a wrong number. HDF5 has no checksums for texts of variable length, scalars, and attributes above
64 KB, so tables hold none of these.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import CorruptArtifact
from transfer.utils.lazy_imports import h5py, np

if TYPE_CHECKING:
    import numpy

CHUNK_BYTES = 1 << 20
FORMAT = ("v110", "v110")  # equal bytes from every version of HDF5, and all later ones read it
MAX_ATTRIBUTE = 32_000  # bytes


class TableWriter:
    """Writes datasets of a known number of rows, block by block.

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
        """Create the file.

        Args:
            path: the file to write.
            rows: rows of every column.
            columns: name -> shape of a row, and dtype.
            attributes: JSON values that describe the table.
        """
        self._file = h5py.File(path, "w", libver=FORMAT)
        self._written = dict.fromkeys(columns, 0)
        self._columns = {
            name: _create_dataset(self._file, name, (rows, *shape), np.dtype(dtype))
            for name, (shape, dtype) in columns.items()
        }
        _set_attributes(self._file, attributes)

    def append(self, **blocks: numpy.ndarray) -> None:
        """Write the next rows of each named column."""
        for name, block in blocks.items():
            column, start = self._columns[name], self._written[name]
            if block.shape[1:] != column.shape[1:] or start + len(block) > len(column):
                raise ValueError(
                    f"rows {start} + {block.shape} do not fit into '{name}' {column.shape}"
                )
            column[start : start + len(block)] = block
            self._written[name] = start + len(block)

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *error: object) -> None:
        short = [
            name for name, column in self._columns.items() if self._written[name] != len(column)
        ]
        self._file.close()
        if short and error[0] is None:
            raise ValueError(f"rows are missing in {', '.join(short)}")


def write_table(path: Path, columns: Mapping[str, numpy.ndarray], **attributes: Any) -> None:
    """Write each array to a dataset; the columns may differ in their number of rows."""
    with h5py.File(path, "w", libver=FORMAT) as file:
        for name, values in columns.items():
            values = np.asarray(values)
            _create_dataset(file, name, values.shape, values.dtype)[...] = values
        _set_attributes(file, attributes)


def _create_dataset(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: numpy.dtype
) -> h5py.Dataset:
    if not shape or dtype.hasobject:
        raise ValueError(
            f"column '{name}': must be an array of rows of numbers, or of texts of one length"
        )
    row_bytes = max(1, dtype.itemsize * math.prod(shape[1:]))
    chunk = (max(1, min(shape[0], CHUNK_BYTES // row_bytes)), *shape[1:])
    full = math.prod(shape) > 0  # an empty dataset has no chunks
    return file.create_dataset(
        name, shape, dtype, chunks=chunk if full else None, fletcher32=full, track_times=False
    )


def _set_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        text = json.dumps(value, sort_keys=True).encode()
        if len(text) > MAX_ATTRIBUTE:
            size = f"{len(text):,} bytes, more than {MAX_ATTRIBUTE:,}"
            raise ValueError(f"attribute '{name}': has {size}; make it a column")
        file.attrs[name] = np.bytes_(text)


def local_member(parent: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return the member `name` of a group.

    ValueError if it is a link, or has its data in other files. KeyError if it is missing.
    """
    hard_link = h5py.h5l.TYPE_HARD  # pyright: ignore[reportAttributeAccessIssue]  # not in stubs
    if parent.id.links.get_info(name.encode()).type != hard_link:
        raise ValueError(f"'{name}' is a link to elsewhere")
    member = parent[name]
    if isinstance(member, h5py.Dataset) and (member.is_virtual or member.external):
        raise ValueError(f"'{name}' keeps its data in other files")
    if not isinstance(member, h5py.Group | h5py.Dataset):
        raise ValueError(f"'{name}' is neither a group nor a dataset")
    return member


def dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    """Return the dataset `name` of a group; ValueError as of `local_member`, and for a group."""
    member = local_member(parent, name)
    if not isinstance(member, h5py.Dataset):
        raise ValueError(f"'{name}' is not a dataset")
    return member


def group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return the group `name` of a group; ValueError as of `local_member`, and for a dataset."""
    member = local_member(parent, name)
    if not isinstance(member, h5py.Group):
        raise ValueError(f"'{name}' is not a group")
    return member


class TableReader:
    """Reads a table. Raises CorruptArtifact with the file's name for everything unreadable."""

    def __init__(self, path: Path):
        self.path = path
        with self._reading(), h5py.File(path, "r") as file:
            self.attributes = {name: json.loads(value) for name, value in file.attrs.items()}
            columns = {str(name): dataset(file, str(name)) for name in file}
            self.shapes = {name: tuple(column.shape) for name, column in columns.items()}
            self.dtypes = {name: column.dtype.str for name, column in columns.items()}

    def __repr__(self) -> str:
        return f"TableReader({str(self.path)!r}, columns={self.shapes})"

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> numpy.ndarray:
        """Return the rows `start` to `stop` of a column."""
        with self._reading(), h5py.File(self.path, "r") as file:
            return dataset(file, name)[start:stop]

    def blocks(self, name: str, rows: int) -> Iterator[tuple[int, numpy.ndarray]]:
        """Yield (first row, block) over a whole column, `rows` at a time.

        Memory does not grow with the length of the column.
        """
        with self._reading(), h5py.File(self.path, "r") as file:
            column = dataset(file, name)
            for start in range(0, len(column), rows):
                yield start, column[start : start + rows]

    def strings(self, name: str) -> list[str]:
        """Return a column of UTF-8 bytes as text."""
        values = self.read(name)
        with self._reading():
            return [value.decode("utf-8") for value in values.tolist()]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        # Besides OSError (checksums), h5py raises each of these for damaged metadata.
        try:
            yield
        except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            problem = f"{self.path.name} cannot be read ({error})"
            raise CorruptArtifact(self.path.parent, problem) from error


def encode_strings(values: list[str]) -> numpy.ndarray:
    """Encode texts as UTF-8 of one length: HDF5 keeps others outside of the checksummed chunks."""
    encoded = [value.encode("utf-8") for value in values]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")
