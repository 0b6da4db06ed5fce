"""Mean intersection over union against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from transfer.numerics.iou import confusion, intersections, mean_iou

SEEDS = range(20)


def test_intersections_are_those_of_scikit_learn() -> None:
    for random in map(np.random.RandomState, SEEDS):
        wanted = random.choice([0, 1, 2, 4, 255], (4, 9, 9)).astype(np.uint8)
        said = random.randint(0, 5, (4, 9, 9))
        matrix = confusion(wanted, said, 5)
        counted = wanted != 255
        per_class: Any = None
        theirs = np.asarray(
            jaccard_score(wanted[counted], said[counted], labels=[0, 1, 2, 4], average=per_class)
        )
        ours = intersections(matrix)
        assert ours[[0, 1, 2, 4]] == pytest.approx(theirs, abs=1e-12)
        assert np.isnan(ours[3])
        assert mean_iou(matrix) == pytest.approx(100 * theirs.mean())
        assert np.array_equal(
            sum(confusion(a, b, 5) for a, b in zip(wanted, said, strict=True)), matrix
        )


def test_masks_that_cannot_be_are_refused_and_empty_ones_have_no_figure() -> None:
    void = np.full((3, 3), 255, np.uint8)
    assert np.isnan(mean_iou(confusion(void, np.zeros((3, 3), int), 4)))
    with pytest.raises(ValueError, match="a true mask holds class 4, but there are only 4 classes"):
        confusion(np.full((3, 3), 4), np.zeros((3, 3), int), 4)
    with pytest.raises(ValueError, match="a predicted mask holds class 9"):
        confusion(np.zeros((3, 3), int), np.full((3, 3), 9), 4)
