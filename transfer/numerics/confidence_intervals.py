"""Confidence intervals of figures, over test images or seeds, and of paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

RESAMPLES = 2000
MAX_LEVELS = 16  # distinct outcomes that `bootstrap_mean` counts instead of drawing rows
LEVEL = 0.95
MIN_SEEDS = 3  # Student's interval of two is 12.7 deviations over the root of two: it says nothing
NORMAL = 1.959964  # the two-sided 95 % point
# Points of Student's t for 1, 2, 3, 4 degrees of freedom. Above, the series of `student_t` has four
# correct decimals.
STUDENT = (12.706205, 4.302653, 3.182446, 2.776445)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `low` and `high` are None where there is none."""

    mean: float
    low: float | None
    high: float | None
    n: int  # number of values
    deviation: float | None = None  # of single values (n - 1); None for one value and for images

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the interval; None without one."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def bootstrap_mean(outcomes: numpy.ndarray, seed: int = 0) -> Estimate:
    """Return the mean of (N,) outcomes of test images, with a percentile bootstrap interval.

    An outcome is such as 100 for a correct and 0 for a wrong prediction. ValueError for N = 0.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    if not len(values):
        raise ValueError("the mean of no outcomes is not defined")
    random = np.random.RandomState(seed)
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) <= MAX_LEVELS:
        # The counts of equal values in a resample are multinomial, so no rows need be drawn.
        resampled = random.multinomial(len(values), counts / len(values), RESAMPLES)
        means = resampled @ levels / len(values)
    else:
        means = bootstrap(lambda rows: float(values[rows].mean()), len(values), random)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def bootstrap(
    figure: Callable[[numpy.ndarray], float], count: int, random: numpy.random.RandomState
) -> numpy.ndarray:
    """Return (RESAMPLES,) values of a figure that is not a mean, such as mAP.

    Args:
        figure: computes it from row numbers.
        count: number of rows, from which as many are drawn with replacement.
        random: the generator.
    """
    return np.array([figure(random.randint(0, count, count)) for _ in range(RESAMPLES)])


def t_interval(values: Sequence[float]) -> Estimate:
    """Return the mean over seeds with Student's interval, which fewer than MIN_SEEDS do not have.

    The interval is mean +- t(n - 1) * deviation / sqrt(n). ValueError for no values.
    """
    n = len(values)
    if not n:
        raise ValueError("the mean of no values is not defined")
    mean = sum(values) / n
    if n == 1:
        return Estimate(mean, None, None, 1)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    if n < MIN_SEEDS:
        return Estimate(mean, None, None, n, deviation)
    reach = student_t(n - 1) * deviation / math.sqrt(n)
    return Estimate(mean, mean - reach, mean + reach, n, deviation)


def student_t(freedom: int) -> float:
    """Return the two-sided 95 % point of Student's t.

    It is the expansion of Fisher and Cornish (Abramowitz & Stegun 26.7.5).
    """
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
    """Return the mean difference of two methods.

    Args:
        ours: values of the first method.
        theirs: values of the second method, in the same order.
        images: values are outcomes of test images; by default, they are figures of seeds.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} values cannot be paired with {len(theirs)}")
    if images:
        return bootstrap_mean(
            np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
        )
    return t_interval([a - b for a, b in zip(ours, theirs, strict=True)])
