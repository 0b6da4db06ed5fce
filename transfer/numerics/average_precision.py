"""Average precision of ranked images or detected boxes, and the matching of boxes to true ones.

Three rules summarize one ranking; their figures differ by points, so a protocol names its rule:
- `11 points`: the mean over the recalls 0, 0.1 ... 1 of the highest precision at that recall or a
  higher one (the devkit of VOC until 2009);
- `area`: the area under that highest precision, over all recalls (the devkit since 2010);
- `step`: the area under the precision itself (scikit-learn's `average_precision_score`).
Entries of equal score enter the ranking at once, so the order of ties changes no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from transfer.numerics.confidence_intervals import LEVEL, bootstrap
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

PrecisionRule = Literal["11 points", "area", "step"]
POINTS = 10  # equal steps of recall from 0 to 1


class Ranking:
    """The ranked entries of one class, sorted once, so that a bootstrap draw costs one pass."""

    def __init__(
        self,
        scores: numpy.ndarray,
        hits: numpy.ndarray,
        images: numpy.ndarray,
        positives: numpy.ndarray,
    ):
        """Sort n entries by their score.

        Args:
            scores: (n,), the highest ranks first.
            hits: (n,) bool, whether the entry is correct.
            images: (n,) int, the image of each entry.
            positives: (images,) int, how many true entries each image has, ranked or not.
        """
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        self.hits = hits[order].astype(np.int64)
        self.images = images[order]
        self.positives = positives.astype(np.int64)
        # Last entry of each group of equal scores.
        self.ends = (
            np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(scores) else order
        )

    def precision(self, rule: PrecisionRule, counts: numpy.ndarray | None = None) -> float:
        """Return the average precision, from 0 to 1; NaN without positives.

        Args:
            rule: see the module.
            counts: (images,) int, how often each image occurs, as in a bootstrap draw; default: 1.
        """
        if counts is None:
            counts = np.ones(len(self.positives), dtype=np.int64)
        total = int(counts @ self.positives)
        if not total:
            return float("nan")
        weights = counts[self.images]
        hits = np.cumsum(weights * self.hits)[self.ends]
        entries = np.cumsum(weights)[self.ends]
        precision = hits / np.maximum(entries, 1)
        if rule != "step":
            precision = np.maximum.accumulate(precision[::-1])[::-1]
        if rule == "11 points":
            # In integers: as floats, a recall of 3/10 may fall below 0.3.
            first = np.searchsorted(POINTS * hits, total * np.arange(POINTS + 1))
            return float(np.append(precision, 0.0)[first].mean())
        return _area(hits, precision, total)


def ranked_precisions(hits: numpy.ndarray) -> numpy.ndarray:
    """Return the average precision of each ranking, from 0 to 1, by the rule `step`.

    `hits` (Q, N) bool are in the order of the ranks, without ties; every row has at least one hit.
    """
    totals = np.cumsum(hits, axis=1)
    ranks = np.arange(1, hits.shape[1] + 1)
    return np.array([_area(row, row / ranks, int(row[-1])) for row in totals])


def _area(hits: numpy.ndarray, precision: numpy.ndarray, total: int) -> float:
    """Return the area under the (n,) precision over the recall that n cumulative hits give."""
    return float(np.diff(hits, prepend=0) @ precision / total)


def rankings(scores: numpy.ndarray, targets: numpy.ndarray) -> list[Ranking]:
    """Return the ranking of images for each class.

    `scores` and `targets` are (N, C); a target is 1 where the image shows the class, -1 where it
    does not, 0 where it is not counted.
    """
    ranked = []
    for column, target in zip(scores.T, targets.T, strict=True):
        rows = np.flatnonzero(target)
        ranked.append(Ranking(column[rows], target[rows] == 1, rows, target == 1))
    return ranked


def precisions(
    ranked: Sequence[Ranking], rule: PrecisionRule, counts: numpy.ndarray | None = None
) -> numpy.ndarray:
    """Return the (C,) average precision of each class in percent; NaN without positives.

    Args:
        ranked: a ranking of each class.
        rule: see the module.
        counts: (images,) int, how often each image occurs; default: once.
    """
    return 100 * np.array([ranking.precision(rule, counts) for ranking in ranked])


def mean_precision(ranked: Sequence[Ranking], rule: PrecisionRule) -> float:
    """Return the mean over the classes with positives, in percent; NaN where no class has any."""
    values = precisions(ranked, rule)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def map_interval(
    class_figures: Callable[[numpy.ndarray], numpy.ndarray], images: int
) -> list[float]:
    """Return [low, high], 95 %, of a mean over classes, by bootstrap over test images.

    A class without positives in a draw keeps its figure over all images: a mean without the rare
    classes would be the mean of something else.

    Args:
        class_figures: (images,) counts to the (C,) figures of the classes, NaN without positives.
        images: the number of test images.
    """
    figures = class_figures(np.ones(images, dtype=np.int64))

    def resampled_mean(rows: numpy.ndarray) -> float:
        resampled = class_figures(np.bincount(rows, minlength=images))
        return float(np.nanmean(np.where(np.isnan(resampled), figures, resampled)))

    means = bootstrap(resampled_mean, images, np.random.RandomState(0))
    return [float(value) for value in np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]


def match_boxes(
    boxes: numpy.ndarray,
    scores: numpy.ndarray,
    truth: numpy.ndarray,
    difficult: numpy.ndarray,
    min_overlap: float = 0.5,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return two (n,) bool: which boxes of an image and a class are hits, and which are counted.

    As in the devkit of VOC, boxes are matched in the order of their scores. Each is compared with
    the true box that it overlaps most. It is a hit if the overlap is large enough and no earlier
    box has hit the same true box. A box that matches a difficult one is not counted. The devkit
    adds a pixel to each side; here, corners are on the borders of pixels already.

    Args:
        boxes: (n, 4), corners as x1, y1, x2, y2.
        scores: (n,), the highest is matched first.
        truth: (m, 4), the true boxes.
        difficult: (m,) bool.
        min_overlap: the least intersection over union of a hit.
    """
    hits, counted = np.zeros(len(boxes), dtype=bool), np.ones(len(boxes), dtype=bool)
    if not len(truth):
        return hits, counted
    overlaps = box_overlaps(boxes, truth)
    matched = np.zeros(len(truth), dtype=bool)
    for number in np.argsort(-scores, kind="stable"):
        nearest = int(overlaps[number].argmax())
        if overlaps[number, nearest] < min_overlap:
            continue
        if difficult[nearest]:
            counted[number] = False
        elif not matched[nearest]:
            hits[number] = matched[nearest] = True
    return hits, counted


def box_overlaps(boxes: numpy.ndarray, others: numpy.ndarray) -> numpy.ndarray:
    """Return the (n, m) intersection over union of (n, 4) and (m, 4) corners; 0 for empty boxes."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    union = _areas(boxes)[:, None] + _areas(others)[None] - common
    return common / np.maximum(union, 1e-12)


def _areas(boxes: numpy.ndarray) -> numpy.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
