"""Average precision, of a ranking of images or of detected boxes; and which detected boxes count as found.

Of one ranking there are three figures, which differ by points; a protocol names the one that it quotes:
- `11 points`: the mean, over the recalls 0, 0.1 ... 1, of the highest precision at that recall or a higher one (the
  devkit of VOC until 2009);
- `area`: the area under that highest precision, over all recalls (the devkit since 2010);
- `step`: the area under the precision as it is, without "highest" (scikit-learn's `average_precision_score`).
What has the same score counts as found at once: the order of equals, which a sort invents, changes nothing.
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
    """All that is ranked of one class, sorted once: to weigh the images anew costs one pass."""

    def __init__(
        self,
        scores: numpy.ndarray,
        hits: numpy.ndarray,
        images: numpy.ndarray,
        wanted: numpy.ndarray,
    ):
        """scores (n,), higher is surer; hits (n,) bool; images (n,): which image each is of; wanted (images,): how many
        there are to be found in each image, whether ranked or not."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        self.hits, self.images, self.wanted = (
            hits[order].astype(np.int64),
            images[order],
            wanted.astype(np.int64),
        )
        self.ends = (
            np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(scores) else order
        )

    def precision(self, how: PrecisionRule, counts: numpy.ndarray | None = None) -> float:
        """The average precision, 0 to 1; NaN where there is nothing to be found. counts (images,): how often each image
        is there, such as in a bootstrap's draw."""
        if counts is None:
            counts = np.ones(len(self.wanted), dtype=np.int64)
        total = int(counts @ self.wanted)
        if not total:
            return float("nan")
        weights = counts[self.images]
        found = np.cumsum(weights * self.hits)[self.ends]
        seen = np.cumsum(weights)[self.ends]
        precision = found / np.maximum(seen, 1)
        if how != "step":
            precision = np.maximum.accumulate(precision[::-1])[::-1]
        if how == "11 points":
            # In whole numbers: 3/10 is no less than 0.3, whatever floats make of it.
            first = np.searchsorted(POINTS * found, total * np.arange(POINTS + 1))
            return float(np.append(precision, 0.0)[first].mean())
        return float(np.diff(found, prepend=0) @ precision / total)


def rankings(scores: numpy.ndarray, targets: numpy.ndarray) -> list[Ranking]:
    """One for each class, of (N, C) scores and (N, C) targets: 1 shows it, -1 does not, 0 is not counted."""
    made = []
    for column, target in zip(scores.T, targets.T, strict=True):
        rows = np.flatnonzero(target)
        made.append(Ranking(column[rows], target[rows] == 1, rows, target == 1))
    return made


def precisions(
    ranked: Sequence[Ranking], how: PrecisionRule, counts: numpy.ndarray | None = None
) -> numpy.ndarray:
    """(C,) in percent, NaN for a class of which there is nothing to be found."""
    return 100 * np.array([one.precision(how, counts) for one in ranked])


def mean_precision(ranked: Sequence[Ranking], how: PrecisionRule) -> float:
    """In percent, over the classes of which there is something to be found; NaN if there is none."""
    found = precisions(ranked, how)
    known = found[~np.isnan(found)]
    return float(known.mean()) if len(known) else float("nan")


def map_interval(each: Callable[[numpy.ndarray], numpy.ndarray], images: int) -> list[float]:
    """[low, high], 95 %, of a mean over classes, by bootstrap over test images.

    each: (images,) counts to (C,) figures of the classes, NaN for one that a draw lacks: it keeps the figure that it
    has of all images, since a mean without the rare classes would be one of something else.
    """
    whole = each(np.ones(images, dtype=np.int64))

    def mean(rows: numpy.ndarray) -> float:
        found = each(np.bincount(rows, minlength=images))
        return float(np.nanmean(np.where(np.isnan(found), whole, found)))

    drawn = bootstrap(mean, images, np.random.RandomState(0))
    return [float(value) for value in np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]


def match_boxes(
    boxes: numpy.ndarray,
    scores: numpy.ndarray,
    truth: numpy.ndarray,
    difficult: numpy.ndarray,
    least: float = 0.5,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Which of an image's (n, 4) boxes of a class are hits, and which count at all: two (n,) bool.

    As the devkit has it: the surest box comes first; each is compared with the true box that it overlaps most, and is a
    hit where the intersection over the union is `least` or more and nothing has hit that one before. What meets a
    difficult one counts neither way. truth (m, 4), difficult (m,) bool; corners as x1, y1, x2, y2, without the pixel
    that the devkit adds to sides: our corners lie on the borders of pixels.
    """
    hits, counts = np.zeros(len(boxes), dtype=bool), np.ones(len(boxes), dtype=bool)
    if not len(truth):
        return hits, counts
    shares = box_overlaps(boxes, truth)
    taken = np.zeros(len(truth), dtype=bool)
    for number in np.argsort(-scores, kind="stable"):
        nearest = int(shares[number].argmax())
        if shares[number, nearest] < least:
            continue
        if difficult[nearest]:
            counts[number] = False
        elif not taken[nearest]:
            hits[number] = taken[nearest] = True
    return hits, counts


def box_overlaps(boxes: numpy.ndarray, others: numpy.ndarray) -> numpy.ndarray:
    """(n, m) intersection over union of (n, 4) and (m, 4) corners; 0 where both are empty."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    union = _areas(boxes)[:, None] + _areas(others)[None] - common
    return common / np.maximum(union, 1e-12)


def _areas(boxes: numpy.ndarray) -> numpy.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
