"""Linear SVMs for one class at a time, as VISSL fits them: cost chosen by folds, or tried on a few examples."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from transfer.numerics.average_precision import rankings
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy
    from sklearn.svm import LinearSVC

FOLDS = 3
TINY = 1e-5  # added to a row's length before the row is divided by it


class LinearSVMs:
    """Fits SVMs: squared hinge, L2, dual, positives weigh 2. `unfinished` counts those stopped by `iterations`."""

    def __init__(self, iterations: int):
        self.iterations, self.fitted, self.unfinished = iterations, 0, 0

    def fit(self, cost: float, features: numpy.ndarray, shows: numpy.ndarray) -> LinearSVC:
        """On (N, D) features, and (N,) bool of both kinds."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        runtime = LinearSVC(
            C=cost,
            class_weight={True: 2, False: 1},
            penalty="l2",
            loss="squared_hinge",
            dual=True,
            tol=1e-4,
            max_iter=self.iterations,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # counted instead, to be told once
            runtime.fit(features, shows)
        self.fitted += 1
        self.unfinished += int(runtime.n_iter_ >= self.iterations)
        return runtime

    def best_cost(
        self, costs: Sequence[float], features: numpy.ndarray, shows: numpy.ndarray
    ) -> tuple[float, float]:
        """The cost with the best average precision (by steps, as scikit-learn marks folds), and that, 0 to 1.

        Where the class has one example, or only one is without it, there are no folds: the first cost, and 0.
        """
        from sklearn.model_selection import StratifiedKFold

        folds = min(FOLDS, int(shows.sum()), int((~shows).sum()))
        if folds < 2:
            return costs[0], 0.0
        found = {}
        for cost in costs:
            marks = []
            for fit, held in StratifiedKFold(folds).split(features, shows):
                scores = self.fit(cost, features[fit], shows[fit]).decision_function(features[held])
                (ranked,) = rankings(scores[:, None], np.where(shows[held], 1, -1)[:, None])
                marks.append(ranked.precision("step"))
            found[cost] = float(np.mean(marks))
        best = max(costs, key=lambda cost: found[cost])
        return best, found[best]


def sample_rows(target: numpy.ndarray, positives: int, negatives: int, seed: int) -> numpy.ndarray:
    """Rows, rising, of a draw without replacement of a (N,) target: so many 1, and at most so many -1."""
    random = np.random.RandomState(seed % (1 << 32))
    shown = random.permutation(np.flatnonzero(target == 1))[:positives]
    return np.sort(
        np.concatenate([shown, random.permutation(np.flatnonzero(target == -1))[:negatives]])
    )


def unit_length(features: numpy.ndarray) -> numpy.ndarray:
    """(N, D) to float32 rows divided by their length."""
    features = features.astype(np.float32)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + TINY)
