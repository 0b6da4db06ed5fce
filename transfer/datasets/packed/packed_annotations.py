"""Annotations beside packed images: which classes each shows, its boxes and its mask, in pixels of the original."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.artifacts import Images
from transfer.datasets.readers.annotations import Boxes
from transfer.datasets.readers.base import Listing
from transfer.storage.hdf5_tables import TableReader, write_table
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy

FILE = "annotations.h5"


def write_annotations(folder: Path, listing: Listing, rows: Sequence[int]) -> None:
    """Keep the annotations of `rows` of an annotated listing in the artifact's `folder`."""
    from PIL import Image

    boxes = [listing.annotations.boxes(row) for row in rows]
    masks = [listing.annotations.mask(row) or b"" for row in rows]
    sizes = []
    for row in rows:
        with Image.open(
            io.BytesIO(listing.read(row))
        ) as image:  # of a listing that keeps files: the header only
            sizes.append(image.size)
    columns = {
        "targets": listing.annotations.targets[list(rows)],
        "sizes": np.array(sizes, dtype=np.int64).reshape(-1, 2),
        "box_starts": np.cumsum([0, *(len(one.labels) for one in boxes)]),
        "mask_starts": np.cumsum([0, *map(len, masks)]),
        "masks": np.frombuffer(b"".join(masks) or b"\0", dtype=np.uint8),
    }
    empty = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
    for name in Boxes._fields:
        columns[name] = np.concatenate([getattr(one, name) for one in (empty, *boxes)])
    columns["difficult"] = columns["difficult"].astype(np.uint8)
    # A table's columns are chunked by rows, of which a set without a single box has none.
    write_table(folder / FILE, {name: values for name, values in columns.items() if len(values)})


class PackedAnnotations:
    """The annotations of a packed set, by its rows."""

    def __init__(self, images: Images):
        """FileNotFoundError where the set has none: see `is_annotated`."""
        self._images, self._table = images, TableReader(images.folder / FILE)
        places = slice(None) if images.places is None else images.places
        self.targets: numpy.ndarray = self._table.read("targets")[
            places
        ]  # (N, classes) int8, see Annotations
        self.sizes: numpy.ndarray = self._table.read("sizes")[
            places
        ]  # (N, 2) width, height of the originals, px
        self._box_starts, self._mask_starts = (
            self._table.read("box_starts"),
            self._table.read("mask_starts"),
        )

    def boxes(self, row: int) -> Boxes:
        """The objects of an image."""
        place = self._images.place(row)
        start, end = self._box_starts[place : place + 2]
        if start == end:
            return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
        corners, labels, difficult = (self._table.read(name, start, end) for name in Boxes._fields)
        return Boxes(corners, labels, difficult.astype(bool))

    def mask(self, row: int) -> numpy.ndarray | None:
        """(H, W) uint8 class indices, 0 for the background, 255 for borders; None where the image has none."""
        from PIL import Image

        place = self._images.place(row)
        start, end = self._mask_starts[place : place + 2]
        if start == end:
            return None
        with Image.open(io.BytesIO(self._table.read("masks", start, end).tobytes())) as image:
            return np.asarray(image)


def has_annotations(images: Images) -> bool:
    """Whether boxes, masks and lists of classes were packed with the images."""
    return (images.folder / FILE).exists()
