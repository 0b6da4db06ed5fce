"""Checks of true labels that all protocols share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.datasets.packed.label_facts import class_counts, depends_on_labels
from transfer.errors import TransferError
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from typing import Any

    import numpy

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

MIN_IMAGES = 20  # training images; with fewer, a figure means nothing
LISTED = 5  # classes that a note names


def true_labels(images: Images) -> numpy.ndarray:
    """Return the (N,) int64 labels of images whose role has `needs_labels`."""
    assert images.labels is not None, "the plan refuses sets without labels"
    return images.labels


def check_planned_count(planned: PlannedStage[Any]) -> None:
    """Raise TransferError for too few training images, where no label decides their number."""
    train = planned.images["train"].stage
    if not depends_on_labels(train):
        _require_images(train.count)


def check_planned_labels(planned: PlannedStage[Any]) -> None:
    """Raise TransferError for what `check_labels` would refuse, before the images are packed."""
    counts = class_counts(planned.images["train"].stage)
    _require_images(sum(counts.values()))
    require_two_classes(len(counts), "training images")


def require_two_classes(count: int, which: str) -> None:
    """Raise TransferError if images of `count` classes are all alike; `which` names the images."""
    if count < 2:
        raise TransferError(f"all {which} have one label; choose a set with at least two classes")


def _require_images(count: int) -> None:
    if count < MIN_IMAGES:
        raise TransferError(
            f"{count} training images are too few to learn from; use at least {MIN_IMAGES}"
        )


def check_labels(train: Images, test: Images, context: StageContext) -> int:
    """Return the number of classes, and note the classes that one of the splits lacks.

    Raises:
        TransferError: the training split has too few images, or one class only.
    """
    train_labels, test_labels = true_labels(train), true_labels(test)
    _require_images(len(train))
    require_two_classes(len(np.unique(train_labels)), "training images")
    _note_missing_classes(
        test,
        train_labels,
        "test images have a class without training images and count as wrong",
        context,
    )
    _note_missing_classes(
        train, test_labels, "training images have a class without test images", context
    )
    return max(int(train_labels.max()), int(test_labels.max())) + 1


def _note_missing_classes(
    images: Images, others: numpy.ndarray, text: str, context: StageContext
) -> None:
    """Note the images whose class is not among the labels `others`, with the names of classes."""
    labels = true_labels(images)
    missing = np.setdiff1d(labels, others)
    if not len(missing):
        return
    names = dict(enumerate(images.classes))
    listed = [names.get(label, str(label)) for label in missing[:LISTED].tolist()]
    more = ", ..." if len(missing) > LISTED else ""
    count = int(np.isin(labels, missing).sum())
    context.note(f"{count} {text}: {', '.join(listed)}{more}")
