"""Average precision and mean intersection over union, against libraries and literal loops."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, jaccard_score

from transfer.numerics.average_precision import (
    PrecisionRule,
    Ranking,
    box_overlaps,
    map_interval,
    match_boxes,
    mean_precision,
    precisions,
    rankings,
)
from transfer.numerics.iou import confusion, intersections, mean_iou

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


# Boxes


def box_world(random: np.random.RandomState) -> list[tuple[np.ndarray, ...]]:
    """Images of (boxes, scores, truth, difficult); true boxes are apart from one another."""
    images = []
    for _ in range(12):
        truth = np.array(
            [[40 * n, 0, 40 * n + 20, 20] for n in range(random.randint(0, 4))], float
        ).reshape(-1, 4)
        near = truth[random.randint(0, len(truth), 6)] if len(truth) else np.zeros((0, 4))
        boxes = np.concatenate(
            [near + random.uniform(-5, 5, near.shape), random.uniform(0, 20, (2, 4))]
        )
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = random.permutation(len(boxes)) + random.uniform()
        images.append((boxes, scores, truth, random.uniform(size=len(truth)) < 0.2))
    return images


def found_in(images: list[tuple[np.ndarray, ...]]) -> Ranking:
    scores, hits, rows = [], [], []
    for row, (boxes, sure, truth, difficult) in enumerate(images):
        hit, counts = match_boxes(boxes, sure, truth, difficult)
        scores.append(sure[counts])
        hits.append(hit[counts])
        rows.append(np.full(counts.sum(), row))
    wanted = np.array([int((~difficult).sum()) for *_, difficult in images])
    return Ranking(np.concatenate(scores), np.concatenate(hits), np.concatenate(rows), wanted)


def literally(images: list[tuple[np.ndarray, ...]]) -> list[tuple[float, float]]:
    """Recall and precision after each box, from the highest score on, as in the devkit."""
    every = [
        (float(s), row, b.tolist())
        for row, one in enumerate(images)
        for b, s in zip(one[0], one[1], strict=True)
    ]
    total = sum(int((~difficult).sum()) for *_, difficult in images)
    taken: set[tuple[int, int]] = set()
    right = wrong = 0
    pairs = []
    for _, row, (left, top, end, bottom) in sorted(every, reverse=True):
        best, which = -1.0, -1
        for number, (a, b, c, d) in enumerate(images[row][2].tolist()):
            wide, tall = min(end, c) - max(left, a), min(bottom, d) - max(top, b)
            if wide > 0 and tall > 0:
                share = (
                    wide * tall / ((end - left) * (bottom - top) + (c - a) * (d - b) - wide * tall)
                )
                if share > best:
                    best, which = share, number
        if best >= 0.5:
            if images[row][3][which]:
                continue
            if (row, which) in taken:
                wrong += 1
            else:
                right += 1
                taken.add((row, which))
        else:
            wrong += 1
        pairs.append((right / total, right / (right + wrong)))
    return pairs


def test_detections_score_as_in_a_literal_loop() -> None:
    for random in map(np.random.RandomState, SEEDS):
        images = box_world(random)
        pairs = literally(images)
        points = (
            sum(max([p for r, p in pairs if r >= t / 10 - 1e-9], default=0.0) for t in range(11))
            / 11
        )
        area, before = 0.0, 0.0
        for recall, _ in pairs:
            area += (recall - before) * max(p for r, p in pairs if r >= recall)
            before = recall
        found = found_in(images)
        assert 0.05 < points < 0.95
        assert found.precision("11 points") == pytest.approx(points, abs=1e-12)
        assert found.precision("area") == pytest.approx(area, abs=1e-12)


def test_detections_score_as_with_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    for random in map(np.random.RandomState, SEEDS):
        images = [
            (b, s / 100 + row / 1e4, t, d & False)
            for row, (b, s, t, d) in enumerate(box_world(random))
        ]

        def corners(box: np.ndarray) -> list[float]:
            return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]

        true, said = coco.COCO(), []
        objects = []
        for row, (boxes, sure, truth, _) in enumerate(images, 1):
            for one in truth:
                area = float(np.prod(one[2:] - one[:2]))
                objects.append(
                    {
                        "id": len(objects) + 1,
                        "image_id": row,
                        "category_id": 1,
                        "bbox": corners(one),
                        "area": area,
                        "iscrowd": 0,
                    }
                )
            said += [
                {"image_id": row, "category_id": 1, "bbox": corners(box), "score": float(score)}
                for box, score in zip(boxes, sure, strict=True)
            ]
        true.dataset = {
            "images": [{"id": row + 1} for row in range(len(images))],
            "annotations": objects,
            "categories": [{"id": 1}],
            "info": {},
        }
        with redirect_stdout(io.StringIO()):
            true.createIndex()
            judge = evaluation.COCOeval(true, true.loadRes(said), "bbox")
            judge.params.iouThrs, judge.params.recThrs = np.array([0.5]), np.arange(11) / 10 - 1e-9
            judge.evaluate()
            judge.accumulate()
        theirs = judge.eval["precision"][0, :, 0, 0, -1].mean()
        # It matches a box to a free true one, the devkit to the nearest: the same where these are
        # apart.
        assert found_in(images).precision("11 points") == pytest.approx(theirs, abs=1e-9)


def test_overlaps_of_known_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [20, 20, 20, 30]], float)
    assert box_overlaps(boxes[:2], boxes).tolist() == [[1, 25 / 175, 0], [25 / 175, 1, 0]]


# Masks


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
