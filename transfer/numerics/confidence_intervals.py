"""What a figure is worth: confidence intervals over test images or over seeds, and differences of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

RESAMPLES = 2000
LEVEL = 0.95
NORMAL = 1.959964  # the two-sided 95 % point
# Student's, for 1, 2, 3, 4 degrees of freedom; beyond, a series in one over their number has four decimals right.
STUDENT = (12.706205, 4.302653, 3.182446, 2.776445)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `deviation` of single values (n - 1), None for one value."""

    mean: float
    low: float
    high: float
    n: int
    deviation: float | None = None


def bootstrap_mean(outcomes: numpy.ndarray, seed: int = 0) -> Estimate:
    """Percentile bootstrap of the mean of (N,) outcomes, one a test image (such as 0 or 100 for wrong or right)."""
    values = np.asarray(outcomes, dtype=np.float64)
    if not len(values):
        raise ValueError("there is nothing to take the mean of")
    random = np.random.RandomState(seed)
    levels, counts = np.unique(values, return_counts=True)
    if (
        len(levels) <= 16
    ):  # the same draws, counted instead of made: how often each value comes is multinomial
        drawn = (
            random.multinomial(len(values), counts / len(values), RESAMPLES) @ levels / len(values)
        )
    else:
        drawn = bootstrap(lambda rows: float(values[rows].mean()), len(values), random)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def bootstrap(
    figure: Callable[[numpy.ndarray], float], count: int, random: numpy.random.RandomState
) -> numpy.ndarray:
    """(RESAMPLES,) `figure` of rows drawn with replacement from `count`; for what is no mean, such as mAP."""
    return np.array([figure(random.randint(0, count, count)) for _ in range(RESAMPLES)])


def t_interval(values: Sequence[float]) -> Estimate:
    """Mean of a figure over seeds, with Student's interval; an interval of nothing for a single one."""
    n = len(values)
    if not n:
        raise ValueError("there is nothing to take the mean of")
    mean = sum(values) / n
    if n == 1:
        return Estimate(mean, mean, mean, 1)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    reach = student_t(n - 1) * deviation / math.sqrt(n)
    return Estimate(mean, mean - reach, mean + reach, n, deviation)


def student_t(freedom: int) -> float:
    """Two-sided 95 % point of Student's t (the expansion of Fisher and Cornish, as in Abramowitz & Stegun 26.7.5)."""
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = NORMAL
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], *, images: bool = False
) -> Estimate:
    """The mean difference of pairs: of two methods with the same seeds, or with `images` over the same test images."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} values cannot be paired with {len(theirs)}")
    if images:
        return bootstrap_mean(
            np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
        )
    return t_interval([a - b for a, b in zip(ours, theirs, strict=True)])
