"""What the VOC protocols ask of their image sets, and annotations brought to the packed squares."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from transfer.datasets.packed.packed_annotations import PackedAnnotations, has_annotations
from transfer.datasets.readers.annotations import Boxes
from transfer.errors import TransferError
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy
    from torch import Tensor

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

READERS = {"voc"}  # those whose sets are annotated
LEAST = 0.01  # px of a box's shorter side below which nothing of it is inside
VISIBLE = (
    0.3  # share of a box inside the square below which it is not counted, and not learned from
)
ADVICE = "take one that has, such as the card voc2007 or voc2012"


def check_annotated(planned: PlannedStage) -> None:
    """ValueError, with the set's name, for one without annotations."""
    for pack in planned.images.values():
        spec, reader = pack.stage.spec, pack.stage.origin.reader
        if reader not in READERS:
            raise ValueError(
                f"image set '{spec.place}' has no annotations (classes, boxes, masks): {ADVICE}"
            )


def load_annotations(images: Images) -> PackedAnnotations:
    """The annotations of a packed set; TransferError where it has none."""
    if not has_annotations(images):
        raise TransferError(
            f"the images of split '{images.card.split}' have no annotations: {ADVICE}"
        )
    return PackedAnnotations(images)


def class_numbers(names: Sequence[str], device: torch.device) -> Tensor:
    """(N,) int64 for `Draw`: an image of that name draws the same wherever it stands in its set."""
    digests = (hashlib.sha256(name.encode()).digest()[:8] for name in names)
    return torch.tensor([int.from_bytes(one, "big", signed=True) for one in digests], device=device)


def check_learnable(targets: numpy.ndarray) -> None:
    """TransferError where the training targets (N, C) tell no image from another."""
    if not ((targets == 1).any(axis=0) & (targets == -1).any(axis=0)).any():
        shown = int((targets == 1).any(axis=0).sum())
        raise TransferError(
            f"of {targets.shape[1]} classes the training images show {shown}, and none is shown by some of them and "
            "not by others: there is nothing to learn"
        )


def classes_counted(
    context: StageContext, classes: Sequence[str], trained: numpy.ndarray, tested: numpy.ndarray
) -> numpy.ndarray:
    """Labels of the classes that count: of which the test split has something. trained, tested (C,) bool.

    Those that it lacks are left out of the mean, which a note says, as of those that only the test split has;
    TransferError where none is left.
    """
    counted = np.flatnonzero(tested)
    if not len(counted):
        raise TransferError("the test split shows none of the classes: there is nothing to score")
    if len(counted) < len(classes):
        gone = ", ".join(classes[label] for label in np.flatnonzero(~tested))
        context.note(f"left out of the mean, as the test split has none of them: {gone}")
    if len(unseen := np.flatnonzero(tested & ~trained)):
        context.note(f"only the test split shows: {', '.join(classes[label] for label in unseen)}")
    return counted


class Square:
    """From pixels of an original to those of its packed square, as `decode.square` cuts it out."""

    def __init__(self, width: int, height: int, size: int, fit: str):
        """width, height of the original, px; size: side of the square, px."""
        self.size = size
        self.corner, self.extent = np.zeros(2), np.array([width, height], dtype=np.float64)
        if fit == "crop":
            short = min(width, height)
            resized = np.array([size * width // short, size * height // short], dtype=np.float64)
            left = np.array(
                [round((side - size) / 2) for side in resized.tolist()], dtype=np.float64
            )
            scale = self.extent / resized
            self.corner, self.extent = left * scale, size * scale

    def boxes(self, boxes: Boxes) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        """Corners (n, 4) float32 on the borders of pixels, cut to the square; labels (n,); (n,) bool: difficult, or
        cut so that less than `VISIBLE` of it is left. Those outside are dropped."""
        corners = boxes.corners.astype(np.float64).reshape(-1, 2, 2)
        corners[:, 1] += 1  # the last row and column belong to the box
        whole = (corners - self.corner) * self.size / self.extent
        cut = whole.clip(0, self.size)
        areas, left = (np.prod(some[:, 1] - some[:, 0], axis=1) for some in (whole, cut))
        kept = (cut[:, 1] - cut[:, 0]).min(axis=1, initial=np.inf) > LEAST
        hard = boxes.difficult | (left < VISIBLE * areas)
        return cut.reshape(-1, 4)[kept].astype(np.float32), boxes.labels[kept], hard[kept]

    def mask(self, mask: numpy.ndarray) -> numpy.ndarray:
        """(H, W) of the original to (S, S), each pixel's nearest."""
        places = (np.arange(self.size) + 0.5) / self.size
        across, down = (
            (corner + places * extent).astype(np.int64).clip(0, side - 1)
            for corner, extent, side in zip(self.corner, self.extent, mask.shape[::-1], strict=True)
        )
        return mask[down[:, None], across]


def square_of(found: PackedAnnotations, row: int, images: Images) -> Square:
    """How the image in `row` was brought to its square."""
    width, height = found.sizes[row].tolist()
    return Square(width, height, images.size, images.card.fit)
