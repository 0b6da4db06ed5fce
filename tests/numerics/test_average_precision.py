"""Average precision of rankings, against scikit-learn and literal loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from transfer.numerics.average_precision import (
    PrecisionRule,
    Ranking,
    map_interval,
    mean_precision,
    precisions,
    rankings,
)

SEEDS = range(20)


def drawn(random: np.random.RandomState, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    count = random.randint(3, 60)
    scores = random.randint(0, 5, count) / 4 if ties else random.permutation(count) / count
    shows = random.uniform(size=count) < random.uniform(0.05, 0.9)
    shows[random.randint(count)] = True
    return scores, shows


def ranking(scores: np.ndarray, shows: np.ndarray) -> Ranking:
    return Ranking(scores, shows, np.arange(len(scores)), shows)


def recalls_and_precisions(scores: np.ndarray, shows: np.ndarray) -> list[tuple[float, float]]:
    """One pair a score, from the highest: of all that is scored so or better."""
    pairs = []
    for least in sorted(set(scores.tolist()), reverse=True):
        named = [bool(show) for score, show in zip(scores, shows, strict=True) if score >= least]
        pairs.append((sum(named) / shows.sum(), sum(named) / len(named)))
    return pairs


@pytest.mark.parametrize("ties", [False, True])
def test_steps_are_those_of_scikit_learn(ties: bool) -> None:
    for random in map(np.random.RandomState, SEEDS):
        scores, shows = drawn(random, ties)
        theirs = average_precision_score(shows, scores)
        assert ranking(scores, shows).precision("step") == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_eleven_points_and_area_are_what_the_devkit_says(ties: bool) -> None:
    for random in map(np.random.RandomState, SEEDS):
        scores, shows = drawn(random, ties)
        pairs = recalls_and_precisions(scores, shows)
        points = 0.0
        for tenth in range(11):
            points += max([p for r, p in pairs if r >= tenth / 10 - 1e-9], default=0.0) / 11
        area, before = 0.0, 0.0
        for recall, _ in pairs:
            area += (recall - before) * max(p for r, p in pairs if r >= recall)
            before = recall
        found = ranking(scores, shows)
        assert found.precision("11 points") == pytest.approx(points, abs=1e-12)
        assert found.precision("area") == pytest.approx(area, abs=1e-12)
        assert (
            found.precision("area") >= found.precision("step") - 1e-12
        )  # the highest is not below the one itself


@pytest.mark.parametrize("rule", ["11 points", "area", "step"])
def test_an_image_that_counts_twice_is_one_that_is_there_twice(rule: PrecisionRule) -> None:
    for random in map(np.random.RandomState, SEEDS):
        scores, shows = drawn(random)
        rows = random.randint(0, len(scores), len(scores))
        counts = np.bincount(rows, minlength=len(scores))
        again = ranking(scores[rows], shows[rows]).precision(rule)
        assert ranking(scores, shows).precision(rule, counts) == pytest.approx(
            again, abs=1e-12, nan_ok=True
        )


@pytest.mark.parametrize("rule", ["11 points", "area", "step"])
def test_the_order_of_images_changes_nothing_even_where_scores_are_alike(
    rule: PrecisionRule,
) -> None:
    for random in map(np.random.RandomState, SEEDS):
        scores, shows = drawn(random, ties=True)
        order = random.permutation(len(scores))
        assert ranking(scores, shows).precision(rule) == ranking(
            scores[order], shows[order]
        ).precision(rule)


def test_a_recall_of_three_in_ten_reaches_the_fourth_point() -> None:
    shows = np.arange(20) < 10
    found = ranking(
        -np.arange(20.0) - 100 * (np.arange(20) >= 3), np.r_[shows[:3], np.roll(shows[3:], 10)]
    )
    assert found.precision("11 points") == pytest.approx((4 * 1.0 + 7 * 10 / 20) / 11)


def test_what_is_not_counted_and_classes_that_nothing_shows() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.7, 0.3, 0.5]])
    targets = np.array([[0, -1, 1], [1, -1, 1], [-1, 0, 1]])
    found = precisions(rankings(scores, targets), "step")
    assert found[0] == 100
    assert np.isnan(found[1])
    assert mean_precision(rankings(scores, targets), "step") == 100
    assert np.isnan(mean_precision(rankings(scores[:, 1:2], targets[:, 1:2]), "area"))


def test_nothing_ranked_finds_nothing() -> None:
    empty = Ranking(np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64), np.array([2, 0]))
    assert [empty.precision(rule) for rule in ("11 points", "area", "step")] == [0, 0, 0]


def test_the_interval_holds_the_figure_and_keeps_classes_that_a_draw_lacks() -> None:
    random = np.random.RandomState(0)
    targets = np.where(random.uniform(size=(60, 3)) < 0.3, 1, -1)
    targets[:, 2] = -1
    targets[7, 2] = 1  # in a third of all draws there is none
    ranked = rankings(random.uniform(size=(60, 3)) + 0.3 * targets, targets)
    low, high = map_interval(lambda counts: precisions(ranked, "step", counts), 60)
    assert 0 < low < mean_precision(ranked, "step") < high < 100
