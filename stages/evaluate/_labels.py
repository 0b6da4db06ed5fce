"""What every protocol asks of true labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.lazy import np

if TYPE_CHECKING:
    from transfer.artifacts import Images

FEWEST = 20  # training images below which nothing can be said


def check_labels(train: Images, test: Images) -> int:
    """The number of classes; TransferError for a training split of which nothing can be learned."""
    if len(train) < FEWEST:
        raise TransferError(f"{len(train)} training images are too few for a probe: at least {FEWEST}")
    if len(np.unique(train.labels)) < 2:
        raise TransferError("all training images have one label: there is nothing to classify")
    return max(int(train.labels.max()), int(test.labels.max())) + 1
