"""Which images of a split are kept: some classes, so many of each, a share, at most so many; drawn alike everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError, did_you_mean
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy

    from transfer.datasets.spec import ImageSpec


def subset(
    spec: ImageSpec, count: int, labels: Sequence[int] | None, classes: Sequence[str]
) -> tuple[numpy.ndarray, numpy.ndarray | None, list[str]]:
    """Rows that are kept, in the set's order; their labels; the names of the classes.

    Drawn, never every n-th: a set may be sorted by class, or its classes may take turns. A larger subset of the same
    seed holds every smaller one. TransferError for a class that there is not, or a class of too few images.
    """
    order = np.random.RandomState(spec.subset_seed).permutation(
        count
    )  # a stream that numpy has frozen
    numbers = None if labels is None else np.asarray(labels, dtype=np.int64)
    names = list(classes)
    if (spec.classes or spec.per_class) and numbers is None:
        raise TransferError(
            f"image set '{spec.location}' has no labels: `classes` and `per_class` need them"
        )
    if spec.classes:
        unknown = next((name for name in spec.classes if name not in names), None)
        if unknown is not None:
            raise TransferError(
                f"image set '{spec.location}' has no class '{unknown}'{did_you_mean(unknown, names)}"
            )
        renumbered = np.full(len(names), -1)
        renumbered[[names.index(name) for name in spec.classes]] = np.arange(len(spec.classes))
        numbers, names = renumbered[numbers], list(spec.classes)
        order = order[numbers[order] >= 0]
    if spec.per_class:
        found = np.unique(numbers[order])
        order = np.concatenate(
            [_some(spec, order[numbers[order] == one], names, one) for one in found]
        )
        order = order[np.random.RandomState(spec.subset_seed).permutation(len(order))]
    if spec.fraction:
        order = order[: max(1, round(spec.fraction * len(order)))]
    rows = np.sort(order[: spec.limit])
    return rows, None if numbers is None else numbers[rows], names


def limit_per_class(spec: ImageSpec, count: int, classes: int) -> int:
    """How many images there will be at most, as far as that is known before the labels are."""
    if isinstance(spec.per_class, int) and classes:
        count = min(count, spec.per_class * (len(spec.classes) if spec.classes else classes))
    elif spec.per_class:
        count = min(count, round(spec.per_class * count) + classes)
    if spec.fraction:
        count = max(1, round(spec.fraction * count))
    return min(count, spec.limit or count)


def _some(spec: ImageSpec, rows: numpy.ndarray, names: Sequence[str], label: int) -> numpy.ndarray:
    if isinstance(spec.per_class, int):
        if len(rows) < spec.per_class:
            raise TransferError(
                f"image set '{spec.location}' has {len(rows)} images of class '{names[label]}', not {spec.per_class}"
            )
        return rows[: spec.per_class]
    return rows[: max(1, round(spec.per_class * len(rows)))]
