"""Annotations of images that show several things: which classes, where (boxes), and which pixels (masks)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy


class Boxes(NamedTuple):
    """The n objects of an image.

    corners: (n, 4) float32, x1, y1, x2, y2 in pixels, counted from 0; the last row and column belong to the box.
    labels: (n,) int64. difficult: (n,) bool: an object that an evaluation counts neither as found nor as missed.
    """

    corners: numpy.ndarray
    labels: numpy.ndarray
    difficult: numpy.ndarray


@dataclass(frozen=True)
class Annotations:
    """Of the images of a listing, by their rows. `boxes` and `mask` read files as `Listing.read` does: from several
    threads, and after a fork.

    targets: (N, classes) int8: 1 the image shows the class, -1 it does not, 0 not to be counted (difficult objects
    only). `mask(row)`: the bytes of a PNG of class indices, 0 for the background, class i as i + 1, 255 for borders;
    None where the image has none.
    """

    classes: list[str]
    targets: numpy.ndarray
    boxes: Callable[[int], Boxes]
    mask: Callable[[int], bytes | None]
