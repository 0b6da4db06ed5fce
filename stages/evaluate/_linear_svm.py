"""Linear SVMs of single classes, as VISSL fits them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from transfer.numerics.average_precision import rankings
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy
    from sklearn.svm import LinearSVC

FOLDS = 3
EPSILON = 1e-5  # added to the length of a row before the row is divided by it
SETTINGS: dict[str, Any] = {
    "class_weight": {True: 2, False: 1},
    "penalty": "l2",
    "loss": "squared_hinge",
    "dual": True,
    "tol": 1e-4,
    "random_state": 0,
}


class Split(NamedTuple):
    """Features and targets of the N images of a split."""

    features: numpy.ndarray  # (N, D) float32 of unit length
    targets: numpy.ndarray  # (N, C) int8: 1 shows the class, -1 does not, 0 is not counted


class LinearSVMs:
    """Fits SVMs with squared hinge loss and L2 penalty, in the dual; positives weigh 2.

    `fitted` counts the SVMs, `unfinished` those that reached the limit of `iterations`.
    """

    def __init__(self, iterations: int):
        self.iterations, self.fitted, self.unfinished = iterations, 0, 0

    def fit(self, cost: float, features: numpy.ndarray, positive: numpy.ndarray) -> LinearSVC:
        """Fit an SVM.

        Args:
            cost: C of the SVM.
            features: (N, D).
            positive: (N,) bool, with both values.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        svm = LinearSVC(C=cost, max_iter=self.iterations, **SETTINGS)
        with warnings.catch_warnings():
            # Unfinished SVMs are counted instead, for one note.
            warnings.simplefilter("ignore", ConvergenceWarning)
            svm.fit(features, positive)
        self.fitted += 1
        self.unfinished += int(svm.n_iter_ >= self.iterations)
        return svm

    def best_cost(
        self, costs: Sequence[float], features: numpy.ndarray, positive: numpy.ndarray
    ) -> tuple[float, float]:
        """Return the cost with the best mean average precision over folds, and that mean.

        The mean is from 0 to 1, by the rule `step`. A class with a single positive or a single
        negative cannot be divided into folds: it gets the first cost, and 0.

        Args:
            costs: the candidates.
            features: (N, D).
            positive: (N,) bool.
        """
        from sklearn.model_selection import StratifiedKFold

        folds = min(FOLDS, int(positive.sum()), int((~positive).sum()))
        if folds < 2:
            return costs[0], 0.0
        means = {}
        for cost in costs:
            figures = []
            for fit, held_out in StratifiedKFold(folds).split(features, positive):
                svm = self.fit(cost, features[fit], positive[fit])
                scores = svm.decision_function(features[held_out])
                targets = np.where(positive[held_out], 1, -1)
                (ranking,) = rankings(scores[:, None], targets[:, None])
                figures.append(ranking.precision("step"))
            means[cost] = float(np.mean(figures))
        best = max(costs, key=lambda cost: means[cost])
        return best, means[best]


def sample_rows(target: numpy.ndarray, positives: int, negatives: int, seed: int) -> numpy.ndarray:
    """Draw rows without replacement, and return them in ascending order.

    Args:
        target: (N,), 1 for positives, -1 for negatives.
        positives: how many positives are drawn.
        negatives: how many negatives are drawn, at most.
        seed: decides the draw.
    """
    random = np.random.RandomState(seed % (1 << 32))
    drawn_positives = random.permutation(np.flatnonzero(target == 1))[:positives]
    drawn_negatives = random.permutation(np.flatnonzero(target == -1))[:negatives]
    return np.sort(np.concatenate([drawn_positives, drawn_negatives]))


def unit_length(features: numpy.ndarray) -> numpy.ndarray:
    """Return (N, D) float32 rows divided by their length."""
    features = features.astype(np.float32)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + EPSILON)
