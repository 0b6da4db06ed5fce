"""Boxes of the VOC detection protocol: true ones, those learned from, and matched detections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.evaluate._voc_data import load_annotations, square_of
from transfer.datasets.readers.annotations import Boxes
from transfer.numerics.average_precision import Ranking, match_boxes
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.artifacts import Images


class MatchedBoxes:
    """Detected boxes of one class, over all images."""

    def __init__(self) -> None:
        self.scores: list[numpy.ndarray] = []
        self.hits: list[numpy.ndarray] = []
        self.images: list[numpy.ndarray] = []

    def add(self, row: int, detected: dict[str, numpy.ndarray], truth: Boxes, label: int) -> None:
        """Match the detected boxes of an image to its true ones.

        Args:
            row: of the image.
            detected: boxes, labels (from 1) and scores, as torchvision returns them.
            truth: the true boxes of all classes.
            label: of the class.
        """
        of_class, is_true = detected["labels"] == label + 1, truth.labels == label
        scores = detected["scores"][of_class]
        hits, counted = match_boxes(
            detected["boxes"][of_class],
            scores,
            truth.corners[is_true],
            truth.difficult[is_true],
        )
        self.scores.append(scores[counted])
        self.hits.append(hits[counted])
        self.images.append(np.full(int(counted.sum()), row))

    def ranking(self, positives: numpy.ndarray) -> Ranking:
        """Return the ranking of all boxes; `positives` (images,) counts the true ones."""
        scores, hits, images = map(np.concatenate, (self.scores, self.hits, self.images))
        return Ranking(scores, hits, images, positives)


def boxes_in_squares(images: Images) -> list[Boxes]:
    """Return the true boxes of each image in px of its packed square, on borders of pixels."""
    annotations = load_annotations(images)
    return [
        square_of(annotations, row, images).boxes(annotations.boxes(row))
        for row in range(len(images))
    ]


def classes_shown(truth: list[Boxes], classes: int) -> numpy.ndarray:
    """Return (classes,) bool: which have a box that is not difficult."""
    labels = np.concatenate([boxes.labels[~boxes.difficult] for boxes in truth])
    return np.bincount(labels, minlength=classes) > 0


def detection_target(truth: Boxes, mirror: int | None, device: torch.device) -> dict[str, Tensor]:
    """Return the boxes that an image is learned from, as torchvision takes them.

    Args:
        truth: the true boxes.
        mirror: width of the image in px if it is mirrored.
        device: of the result.
    """
    learned = ~truth.difficult
    boxes = torch.from_numpy(truth.corners[learned])
    if mirror is not None:
        left, top, right, bottom = boxes.unbind(1)
        boxes = torch.stack((mirror - right, top, mirror - left, bottom), dim=1)
    labels = torch.from_numpy(truth.labels[learned] + 1)  # 0 is the background
    return {"boxes": boxes.to(device), "labels": labels.to(device)}
