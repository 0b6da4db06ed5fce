"""Draws the subset of a split: by class, images of each class, a share or a limit.

A draw is the same on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError, did_you_mean
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy

    from transfer.datasets.spec import SubsetSpec


def subset(
    spec: SubsetSpec,
    count: int,
    labels: Sequence[int] | numpy.ndarray | None,
    classes: Sequence[str],
    set_name: str = "",
) -> tuple[numpy.ndarray, numpy.ndarray | None, list[str]]:
    """Return the rows to keep in the set's order, their labels, and the names of the classes.

    Rows are drawn at random: every n-th row of a set that is sorted by class would be a biased
    choice. A larger subset of the same seed contains every smaller one.

    Args:
        spec: which images to keep.
        count: images of the split.
        labels: (count,) int; None for a split without labels.
        classes: the names of the labels.
        set_name: the image set, for messages.

    Raises:
        TransferError: a class is unknown or has too few images, or labels are missing.
    """
    # RandomState: a stream that numpy has frozen.
    order = np.random.RandomState(spec.seed).permutation(count)
    numbers = None if labels is None else np.asarray(labels, dtype=np.int64)
    names = list(classes)
    if numbers is None and (spec.classes or spec.per_class):
        raise TransferError(
            f"image set '{set_name}' has no labels: `classes` and `per_class` need them"
        )
    if spec.classes and numbers is not None:
        unknown = next((name for name in spec.classes if name not in names), None)
        if unknown is not None:
            raise TransferError(
                f"image set '{set_name}' has no class '{unknown}'{did_you_mean(unknown, names)}"
            )
        renumbered = np.full(len(names), -1)
        renumbered[[names.index(name) for name in spec.classes]] = np.arange(len(spec.classes))
        numbers, names = renumbered[numbers], list(spec.classes)
        order = order[numbers[order] >= 0]
    if spec.per_class and numbers is not None:
        ordered_labels = numbers[order]
        parts = []
        for label in np.unique(ordered_labels).tolist():
            rows = order[ordered_labels == label]
            if isinstance(spec.per_class, int) and len(rows) < spec.per_class:
                raise TransferError(
                    f"image set '{set_name}' has {len(rows)} images of class '{names[label]}', "
                    f"not {spec.per_class}"
                )
            parts.append(rows[: _class_limit(spec.per_class, len(rows))])
        order = np.concatenate(parts)
        order = order[np.random.RandomState(spec.seed).permutation(len(order))]
    if spec.fraction:
        order = order[: max(1, round(spec.fraction * len(order)))]
    rows = np.sort(order[: spec.limit])
    return rows, None if numbers is None else numbers[rows], names


def limit_per_class(spec: SubsetSpec, count: int, classes: int) -> int:
    """Return the largest possible number of images, as far as it is known without labels."""
    if isinstance(spec.per_class, int) and classes:
        count = min(count, spec.per_class * (len(spec.classes) if spec.classes else classes))
    elif spec.per_class:
        count = min(count, round(spec.per_class * count) + classes)
    if spec.fraction:
        count = max(1, round(spec.fraction * count))
    return min(count, spec.limit or count)


def _class_limit(per_class: int | float, count: int) -> int:
    """Return how many of `count` images of a class are kept."""
    return per_class if isinstance(per_class, int) else max(1, round(per_class * count))
