"""What a figure is worth: confidence intervals over test images or over seeds, and differences of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.lazy import np

if TYPE_CHECKING:
    import numpy

RESAMPLES = 2000
LEVEL = 0.95
# Two-sided 95 % points of Student's t for 1, 2, ... degrees of freedom; the normal one beyond.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
NORMAL = 1.960


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `deviation` of single values (n - 1), None for one value."""

    mean: float
    low: float
    high: float
    n: int
    deviation: float | None = None


def over_images(outcomes: numpy.ndarray, seed: int = 0) -> Estimate:
    """Percentile bootstrap of the mean of (N,) outcomes, one a test image (such as 0 or 100 for wrong or right)."""
    values = np.asarray(outcomes, dtype=np.float64)
    random = np.random.RandomState(seed)
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) <= 16:  # the same draws, counted instead of made: how often each value comes is multinomial
        drawn = random.multinomial(len(values), counts / len(values), RESAMPLES) @ levels / len(values)
    else:
        drawn = resampled(lambda rows: float(values[rows].mean()), len(values), random)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def resampled(figure: Callable[[numpy.ndarray], float], count: int, random: numpy.random.RandomState) -> numpy.ndarray:
    """(RESAMPLES,) `figure` of rows drawn with replacement from `count`; for what is no mean, such as mAP."""
    return np.array([figure(random.randint(0, count, count)) for _ in range(RESAMPLES)])


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of a figure over seeds, with Student's interval; an interval of nothing for a single one."""
    n, mean = len(values), sum(values) / len(values)
    if n == 1:
        return Estimate(mean, mean, mean, 1)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    reach = (STUDENT[n - 2] if n - 2 < len(STUDENT) else NORMAL) * deviation / math.sqrt(n)
    return Estimate(mean, mean - reach, mean + reach, n, deviation)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The mean difference of pairs: of two methods with the same seed, or over the same test images."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} values cannot be paired with {len(theirs)}")
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return over_seeds(differences) if len(differences) < 64 else over_images(np.array(differences))
