"""Subsets of a split: some classes, a number or a share of images; the same on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError, did_you_mean
from transfer.utils.formatting import plural
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
    """Return the rows of a subset in the order of the set, their labels, and the class names.

    Rows are drawn at random, because a set may be sorted by class, or its classes may alternate.
    A larger subset of the same seed contains every smaller one. TransferError for an unknown
    class, or for a class with too few images.

    Args:
        spec: the subset.
        count: images of the split.
        labels: their labels; None if the split has none.
        classes: the class names in the order of the labels.
        set_name: the image set, for messages.
    """
    # numpy guarantees that the stream of RandomState never changes.
    order = np.random.RandomState(spec.seed).permutation(count)
    names = list(classes)
    if labels is None:
        if spec.classes or spec.per_class:
            raise TransferError(
                f"image set '{set_name}' has no labels: `classes` and `per_class` need them"
            )
        return np.sort(_take_share(spec, order)), None, names
    numbers = np.asarray(labels, dtype=np.int64)
    if spec.classes:
        unknown = next((name for name in spec.classes if name not in names), None)
        if unknown is not None:
            hint = did_you_mean(unknown, names)
            raise TransferError(f"image set '{set_name}' has no class '{unknown}'{hint}")
        renumbered = np.full(len(names), -1)
        renumbered[[names.index(name) for name in spec.classes]] = np.arange(len(spec.classes))
        numbers, names = renumbered[numbers], list(spec.classes)
        order = order[numbers[order] >= 0]
    if spec.per_class:
        parts = [
            _take_of_class(
                spec,
                order[numbers[order] == label],
                f"class '{_class_name(names, label)}' of image set '{set_name}'",
            )
            for label in np.unique(numbers[order])
        ]
        order = np.concatenate(parts)
        order = order[np.random.RandomState(spec.seed).permutation(len(order))]
    rows = np.sort(_take_share(spec, order))
    return rows, numbers[rows], names


def _class_name(names: Sequence[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)


def limit_per_class(spec: SubsetSpec, count: int, classes: int) -> int:
    """Return the largest number of images that a subset can have, before the labels are read.

    Args:
        spec: the subset.
        count: images of the split.
        classes: its classes; 0 if they are not known.
    """
    if isinstance(spec.per_class, int) and classes:
        count = min(count, spec.per_class * (len(spec.classes) if spec.classes else classes))
    elif spec.per_class:
        count = min(count, round(spec.per_class * count) + classes)
    if spec.fraction:
        count = max(1, round(spec.fraction * count))
    return min(count, spec.limit or count)


def _take_share(spec: SubsetSpec, order: numpy.ndarray) -> numpy.ndarray:
    """Return the first rows of a random order, by `fraction` and `limit`."""
    if spec.fraction:
        order = order[: max(1, round(spec.fraction * len(order)))]
    return order[: spec.limit]


def _take_of_class(spec: SubsetSpec, rows: numpy.ndarray, where: str) -> numpy.ndarray:
    """Return the first rows of a class, by `per_class`; at least one."""
    if isinstance(spec.per_class, float):
        return rows[: max(1, round(spec.per_class * len(rows)))]
    assert spec.per_class is not None, "the caller checks `per_class`"
    if len(rows) < spec.per_class:
        raise TransferError(f"{where} has {plural(len(rows), 'image')}, not {spec.per_class}")
    return rows[: spec.per_class]
