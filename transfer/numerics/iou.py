"""Mean intersection over union of masks, from confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

VOID = 255  # borders of objects and unlabeled pixels: not counted


def confusion(true: numpy.ndarray, predicted: numpy.ndarray, classes: int) -> numpy.ndarray:
    """Count pixels: entry (i, j) are those of class i that were predicted as class j.

    Pixels whose true class is `VOID` are not counted.

    Args:
        true: class indices below `classes`, or `VOID`.
        predicted: class indices below `classes`, of the same shape.
        classes: the number of classes.

    Returns:
        (classes, classes) int64.

    Raises:
        ValueError: a mask holds another index.
    """
    counted = true != VOID
    true, predicted = true[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for name, values in (("true", true), ("predicted", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"a {name} mask holds class {values.max()}, but there are only {classes} classes"
            )
    pairs = np.bincount(true * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes)


def intersections(matrix: numpy.ndarray) -> numpy.ndarray:
    """Return the (classes,) intersection over union, from 0 to 1, of a confusion matrix.

    A class without true pixels is NaN: it is left out of the mean, whatever was predicted.
    """
    correct, true, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    union = np.maximum(true + predicted - correct, 1)
    return np.where(true > 0, correct / union, np.nan)


def mean_iou(matrix: numpy.ndarray) -> float:
    """Return the mean over the classes with true pixels, in percent; NaN without such pixels."""
    shares = intersections(matrix)
    known = shares[~np.isnan(shares)]
    return 100.0 * float(known.mean()) if len(known) else float("nan")
