"""Annotations of images that show several objects: classes, boxes and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy


class Boxes(NamedTuple):
    """The n objects of an image.

    corners: (n, 4) float32, x1, y1, x2, y2 in pixels from 0; the box includes the last row and
        column.
    labels: (n,) int64.
    difficult: (n,) bool; an evaluation counts a difficult object neither as detected nor as missed.
    """

    corners: numpy.ndarray
    labels: numpy.ndarray
    difficult: numpy.ndarray


@dataclass(frozen=True)
class Annotations:
    """Annotations of a listing's images, by row.

    Several threads and forked processes may call `boxes` and `mask`, as they may `Listing.read`.

    targets: (N, classes) int8: 1 for a class that the image shows, -1 for one that it does not, 0
        for one of which it shows difficult objects only.
    mask: the bytes of a PNG of class indices, or None for an image without a mask. 0 is the
        background, i + 1 is class i, 255 are borders.
    """

    classes: list[str]
    targets: numpy.ndarray
    boxes: Callable[[int], Boxes]
    mask: Callable[[int], bytes | None]
