"""What every protocol asks of true labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images
    from transfer.stage.context import StageContext

FEWEST = 20  # training images below which nothing can be said


def check_several(labels: numpy.ndarray, which: str) -> None:
    """TransferError where all have one label."""
    if len(np.unique(labels)) < 2:
        raise TransferError(f"all {which} have one label: there is nothing to classify")


def check_labels(train: Images, test: Images, context: StageContext) -> int:
    """The number of classes; TransferError where nothing can be learned. Classes that a split lacks are noted."""
    if len(train) < FEWEST:
        raise TransferError(
            f"{len(train)} training images are too few for a probe: at least {FEWEST}"
        )
    check_several(train.labels, "training images")
    for told, some, others in (
        ("test images are of classes that no training image has, and count as wrong", test, train),
        ("training images are of classes that no test image has", train, test),
    ):
        lost = np.setdiff1d(some.labels, others.labels)
        if len(lost):
            first = ", ".join(
                dict(enumerate(some.classes)).get(label, str(label)) for label in lost[:5].tolist()
            )
            context.note(
                f"{int(np.isin(some.labels, lost).sum())} {told}: {first}{', ...' if len(lost) > 5 else ''}"
            )
    return max(int(train.labels.max()), int(test.labels.max())) + 1
