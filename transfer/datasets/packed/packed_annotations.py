"""Annotations of packed images: classes, boxes and masks, in pixels of the original images."""

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
    """Write the annotations of a listing to a file of the artifact.

    Args:
        folder: the folder of the artifact.
        listing: images with annotations, stored as encoded files.
        rows: the rows that were packed, in order.
    """
    annotations = listing.annotations
    assert annotations is not None, "the caller checks `annotations`"
    boxes = [annotations.boxes(row) for row in rows]
    masks = [annotations.mask(row) or b"" for row in rows]
    columns = {
        "targets": annotations.targets[list(rows)],
        "sizes": np.array([_size(listing, row) for row in rows], dtype=np.int64).reshape(-1, 2),
        "box_starts": np.cumsum([0, *(len(image_boxes.labels) for image_boxes in boxes)]),
        "mask_starts": np.cumsum([0, *map(len, masks)]),
        "masks": np.frombuffer(b"".join(masks) or b"\0", dtype=np.uint8),
    }
    for name in Boxes._fields:
        parts = [getattr(image_boxes, name) for image_boxes in (_no_boxes(), *boxes)]
        columns[name] = np.concatenate(parts)
    columns["difficult"] = columns["difficult"].astype(np.uint8)
    # Columns are chunked by rows, so a column without rows (a set without boxes) is left out.
    write_table(folder / FILE, {name: values for name, values in columns.items() if len(values)})


def _size(listing: Listing, row: int) -> tuple[int, int]:
    """Return width and height of an image, of which only the header is read."""
    from transfer.datasets.packed.picture_files import picture_size

    data = listing.read(row)
    assert isinstance(data, bytes), "images with annotations are stored as files"
    return picture_size(data)


def _no_boxes() -> Boxes:
    return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))


class PackedAnnotations:
    """The annotations of a packed set by its rows.

    `targets` (N, classes) int8 are those of `Annotations`; `sizes` (N, 2) are width and height of
    the original images in px.
    """

    targets: numpy.ndarray
    sizes: numpy.ndarray

    def __init__(self, images: Images):
        """Open the annotations; FileNotFoundError if the set has none, see `has_annotations`."""
        self._images, self._table = images, TableReader(images.folder / FILE)
        places = slice(None) if images.places is None else images.places
        self.targets = self._table.read("targets")[places]
        self.sizes = self._table.read("sizes")[places]
        self._box_starts = self._table.read("box_starts")
        self._mask_starts = self._table.read("mask_starts")

    def boxes(self, row: int) -> Boxes:
        """Return the boxes of an image."""
        place = self._images.place(row)
        start, end = self._box_starts[place : place + 2]
        if start == end:
            return _no_boxes()
        corners, labels, difficult = (self._table.read(name, start, end) for name in Boxes._fields)
        return Boxes(corners, labels, difficult.astype(bool))

    def mask(self, row: int) -> numpy.ndarray | None:
        """Return the mask of an image, (H, W) uint8, or None if it has none.

        Values are class indices, 0 for the background, 255 for borders.
        """
        from PIL import Image

        place = self._images.place(row)
        start, end = self._mask_starts[place : place + 2]
        if start == end:
            return None
        with Image.open(io.BytesIO(self._table.read("masks", start, end).tobytes())) as image:
            return np.asarray(image)


def has_annotations(images: Images) -> bool:
    """Whether annotations were packed with the images."""
    return (images.folder / FILE).exists()
