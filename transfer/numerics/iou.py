"""Mean intersection over union of masks, from confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

VOID = 255  # borders of objects and what nobody labeled: counted neither way


def confusion(wanted: numpy.ndarray, said: numpy.ndarray, classes: int) -> numpy.ndarray:
    """(classes, classes) int64: pixels of class i that were said to be of class j; where `wanted` is 255, none.

    Both masks have one shape, of class indices below `classes`; ValueError for another index.
    """
    counted = wanted != VOID
    wanted, said = wanted[counted].astype(np.int64), said[counted].astype(np.int64)
    for name, values in (("true", wanted), ("predicted", said)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"a {name} mask holds class {values.max()}, and there are {classes}")
    return np.bincount(wanted * classes + said, minlength=classes**2).reshape(classes, classes)


def intersections(matrix: numpy.ndarray) -> numpy.ndarray:
    """(classes,) intersection over union, 0 to 1, of a (classes, classes) confusion matrix; NaN for a class of which
    there is no true pixel: it is left out of the mean, whatever was said."""
    right, true, said = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    union = np.maximum(true + said - right, 1)
    return np.where(true > 0, right / union, np.nan)


def mean_iou(matrix: numpy.ndarray) -> float:
    """In percent, over the classes of which there are true pixels; NaN where there are none at all."""
    shares = intersections(matrix)
    known = shares[~np.isnan(shares)]
    return 100.0 * float(known.mean()) if len(known) else float("nan")
