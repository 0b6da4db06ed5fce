"""Detected boxes against true ones: literal loops and pycocotools."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import numpy as np
import pytest

from transfer.numerics.average_precision import Ranking, box_overlaps, match_boxes

SEEDS = range(20)


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
