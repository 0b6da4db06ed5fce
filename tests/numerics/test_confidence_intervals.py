"""Intervals and differences against plain loops and against SciPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from transfer.numerics.confidence_intervals import (
    MIN_SEEDS,
    RESAMPLES,
    bootstrap,
    bootstrap_mean,
    paired_difference,
    student_t,
    t_interval,
)

FIGURES = st.lists(st.floats(0, 100, allow_nan=False), min_size=2, max_size=30)


def outcomes(n: int, share: float, seed: int = 0) -> np.ndarray:
    return 100.0 * (np.random.RandomState(seed).rand(n) < share)


# Over test images


def literal(values: np.ndarray, seed: int = 1) -> tuple[float, float]:
    """The percentile bootstrap by its definition: means of images drawn with replacement."""
    random, means = np.random.RandomState(seed), []
    for _ in range(4000):
        total = 0.0
        for row in random.randint(0, len(values), len(values)):
            total += values[row]
        means.append(total / len(values))
    means.sort()
    return means[100 - 1], means[3900 - 1]


@pytest.mark.parametrize(("n", "share"), [(60, 0.5), (60, 0.9), (90, 0.2)])
def test_the_interval_over_images_is_that_of_a_literal_loop(n: int, share: float) -> None:
    values = outcomes(n, share)
    found, (low, high) = bootstrap_mean(values), literal(values)
    assert (found.mean, found.n, found.deviation) == (values.mean(), n, None)
    step = 100 / n  # the means of n outcomes lie on a grid
    assert abs(found.low - low) <= step + 1e-9
    assert abs(found.high - high) <= step + 1e-9


@pytest.mark.parametrize("kind", ["right or wrong", "continuous"])
def test_the_interval_over_images_is_that_of_scipy(kind: str) -> None:
    values = (
        outcomes(400, 0.7)
        if kind == "right or wrong"
        else np.random.RandomState(3).gamma(2.0, 20.0, 400)
    )
    seed: dict[str, Any] = {"random_state": np.random.RandomState(5)}
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=4000,
        method="percentile",
        **seed,
    ).confidence_interval
    found = bootstrap_mean(values)
    width = theirs.high - theirs.low
    assert found.low == pytest.approx(theirs.low, abs=0.08 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.08 * width)


def test_counted_draws_are_distributed_like_drawn_ones() -> None:
    values = outcomes(300, 0.6)
    drawn = bootstrap(
        lambda rows: float(values[rows].mean()), len(values), np.random.RandomState(0)
    )
    found = bootstrap_mean(values)
    assert len(drawn) == RESAMPLES
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([found.low, found.high], abs=0.7)
    # And both like what theory says of a mean.
    error = math.sqrt(values.var() / len(values))
    assert [found.low, found.high] == pytest.approx(
        [found.mean - 1.96 * error, found.mean + 1.96 * error], abs=0.7
    )


def test_an_interval_is_drawn_alike_every_time_and_does_not_depend_on_the_order_of_images() -> None:
    values = outcomes(200, 0.3)
    assert bootstrap_mean(values) == bootstrap_mean(values) == bootstrap_mean(values[::-1])
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 100.0]), min_size=1, max_size=80))
def test_an_interval_holds_the_mean_and_lies_within_the_outcomes(values: list[float]) -> None:
    found = bootstrap_mean(np.array(values))
    assert min(values) <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= max(values)
    if len(set(values)) == 1:
        assert found.low == found.high == values[0]


def test_more_images_make_a_narrower_interval() -> None:
    few, many = (bootstrap_mean(np.tile([0.0, 100.0], n)) for n in (50, 5000))
    assert many.high - many.low == pytest.approx((few.high - few.low) / 10, rel=0.15)


# Over seeds


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 6, 9, 15, 16, 17, 30, 60, 200, 10_000])
def test_students_points_are_those_of_scipy(freedom: int) -> None:
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1.5e-4)


@pytest.mark.parametrize("n", [3, 5, 20])
def test_mean_deviation_and_interval_over_seeds_are_those_of_scipy(n: int) -> None:
    values = np.random.RandomState(n).normal(70, 3, n).tolist()
    found = t_interval(values)
    low, high = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert found.n == n
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert (found.mean, found.low, found.high) == pytest.approx(
        (np.mean(values), low, high), rel=1e-4
    )


def test_one_seed_has_neither_deviation_nor_interval() -> None:
    found = t_interval([71.5])
    assert (found.mean, found.n, found.deviation) == (71.5, 1, None)
    assert (found.low, found.high, found.interval) == (None, None, None)


def test_two_seeds_have_a_deviation_and_no_interval() -> None:
    # Student's interval of these is 68 +- 12.7 * 1.41 / 1.41: from 55.3 to 80.7.
    found = t_interval([67.0, 69.0])
    assert (found.mean, found.n, found.deviation) == (68, 2, pytest.approx(2**0.5))
    assert found.interval is None
    assert paired_difference([1.0, 2.0], [3.0, 5.0]).interval is None


@given(FIGURES, st.floats(-50, 50, allow_nan=False))
def test_a_shift_of_all_seeds_shifts_the_interval(values: list[float], shift: float) -> None:
    found, moved = t_interval(values), t_interval([value + shift for value in values])
    assert moved.mean == pytest.approx(found.mean + shift, abs=1e-6)
    if len(values) < MIN_SEEDS:
        assert (found.interval, moved.interval) == (None, None)
    else:
        assert moved.high - moved.low == pytest.approx(found.high - found.low, abs=1e-6)
        assert found.low - 1e-9 <= found.mean <= found.high + 1e-9


# Pairs


def test_paired_seeds_are_the_paired_test_of_scipy() -> None:
    random = np.random.RandomState(0)
    theirs = random.normal(60, 5, 6)
    ours = theirs + random.normal(2, 0.5, 6)
    found = paired_difference(ours.tolist(), theirs.tolist())
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-3)
    # What seeds share cancels: each on its own is far less sure.
    assert (
        found.high - found.low
        < (t_interval(ours.tolist()).high - t_interval(ours.tolist()).low) / 3
    )


def test_paired_images_are_the_interval_of_their_differences() -> None:
    ours, theirs = outcomes(500, 0.8, 1), outcomes(500, 0.7, 2)
    found = paired_difference(ours.tolist(), theirs.tolist(), images=True)
    assert found == bootstrap_mean(ours - theirs)
    assert found.mean == pytest.approx(ours.mean() - theirs.mean())
    assert found.n == 500


def test_a_few_images_are_still_images_and_many_seeds_still_seeds() -> None:
    ours, theirs = outcomes(30, 0.8, 1), outcomes(30, 0.7, 2)
    assert paired_difference(ours.tolist(), theirs.tolist(), images=True).deviation is None
    many = np.random.RandomState(0).normal(0, 1, 100).tolist()
    assert paired_difference(many, [0.0] * 100) == t_interval(many)


@given(FIGURES)
def test_turned_round_a_difference_changes_its_sign(values: list[float]) -> None:
    other = values[::-1]
    there, back = paired_difference(values, other), paired_difference(other, values)
    assert there.mean == pytest.approx(-back.mean, abs=1e-9)
    same = paired_difference(values, values)
    if len(values) < MIN_SEEDS:
        assert (there.interval, back.interval, same.interval) == (None, None, None)
    else:
        assert there.interval == pytest.approx((-back.high, -back.low), abs=1e-9)
        assert (same.mean, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("images", [False, True])
def test_what_cannot_be_paired_is_refused(images: bool) -> None:
    with pytest.raises(ValueError, match="3 values cannot be paired with 2"):
        paired_difference([1, 2, 3], [1, 2], images=images)
    with pytest.raises(ValueError, match="mean of no"):
        paired_difference([], [], images=images)
