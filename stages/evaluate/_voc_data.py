"""Data of the VOC protocols: checks of annotated sets, and annotations of packed squares."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from transfer.datasets.packed.label_facts import annotation_facts
from transfer.datasets.packed.pack_stage import Pack
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

READERS = {"voc"}  # of annotated sets
MIN_SIDE = 0.01  # px; a box with a shorter side inside the square is dropped
# A box with a smaller share inside the square is difficult: neither counted nor learned from.
MIN_VISIBLE = 0.3
NO_MASK = "{name} has no mask; choose a split of segmentation"
REMEDY = "choose a set with annotations, such as the card voc2007 or voc2012"


def check_annotated(planned: PlannedStage[Any]) -> None:
    """Raise ValueError for a planned set without annotations."""
    for pack in planned.images.values():
        stage = pack.stage
        assert isinstance(stage, Pack), "image sets are packed by Pack"
        if stage.origin.reader not in READERS:
            raise ValueError(
                f"image set '{stage.spec.location}' has no annotations (classes, boxes, masks); "
                f"{REMEDY}"
            )


def load_annotations(images: Images) -> PackedAnnotations:
    """Return the annotations of a packed set; TransferError where it has none."""
    if not has_annotations(images):
        raise TransferError(
            f"the images of split '{images.card.split}' have no annotations; {REMEDY}"
        )
    return PackedAnnotations(images)


def ids_from_names(names: Sequence[str], device: torch.device) -> Tensor:
    """Return (N,) int64 ids for `PerImageRng`: the draw of an image depends on its name alone."""
    digests = (hashlib.sha256(name.encode()).digest()[:8] for name in names)
    ids = [int.from_bytes(digest, "big", signed=True) for digest in digests]
    return torch.tensor(ids, device=device)


def check_planned_classes(planned: PlannedStage[Any]) -> None:
    """Raise TransferError if no class separates the training images, or can be scored."""
    train = annotation_facts(planned.images["train"].stage)
    require_learnable(np.array(train.shown), np.array(train.absent))
    require_tested(any(annotation_facts(planned.images["test"].stage).shown))


def check_planned_masks(planned: PlannedStage[Any]) -> None:
    """Raise TransferError for an image without a mask."""
    for pack in planned.images.values():
        if unmasked := annotation_facts(pack.stage).unmasked:
            raise TransferError(NO_MASK.format(name=unmasked))


def check_learnable(targets: numpy.ndarray) -> None:
    """Raise TransferError if no class separates the training images.

    `targets` (N, C) are 1 where the image shows the class, -1 where it does not, 0 where it is not
    counted.
    """
    require_learnable((targets == 1).sum(axis=0), (targets == -1).sum(axis=0))


def require_learnable(shown: numpy.ndarray, absent: numpy.ndarray) -> None:
    """Raise TransferError if no class is in some images but not in others.

    `shown` (C,) are the images that show a class, `absent` (C,) those that do not.
    """
    if not ((shown > 0) & (absent > 0)).any():
        raise TransferError(
            f"the training images show {int((shown > 0).sum())} of {len(shown)} classes, and no "
            "class is in some images but not in others; choose a set with several classes"
        )


def require_tested(any_class: bool) -> None:
    """Raise TransferError if the test split shows none of the classes."""
    if not any_class:
        raise TransferError(
            "the test split shows none of the classes; choose a split with annotated objects"
        )


def classes_counted(
    context: StageContext, classes: Sequence[str], trained: numpy.ndarray, tested: numpy.ndarray
) -> numpy.ndarray:
    """Return the labels of the classes that the test split shows, over which the mean is taken.

    Notes name the classes that it lacks, and those that only the test split shows.

    Args:
        context: the stage that runs.
        classes: names of the C classes.
        trained: (C,) bool, which classes the training split shows.
        tested: (C,) bool, which classes the test split shows.

    Raises:
        TransferError: the test split shows no class.
    """
    counted = np.flatnonzero(tested)
    require_tested(bool(len(counted)))
    missing = [name for name, is_tested in zip(classes, tested, strict=True) if not is_tested]
    if missing:
        context.note(
            f"left out of the mean, because the test split lacks them: {', '.join(missing)}"
        )
    unseen = tested & ~trained
    if unseen.any():
        names = [name for name, is_unseen in zip(classes, unseen, strict=True) if is_unseen]
        context.note(f"only the test split shows: {', '.join(names)}")
    return counted


class Square:
    """Maps pixels of an original image to its packed square, which `decode.square` cuts out."""

    def __init__(self, width: int, height: int, size: int, fit: str):
        """Compute the part of the original that the square shows.

        Args:
            width: of the original, px.
            height: of the original, px.
            size: side of the square, px.
            fit: `crop` or `stretch`, as the set was packed.
        """
        self.size = size
        self.corner, self.extent = np.zeros(2), np.array([width, height], dtype=np.float64)
        if fit == "crop":
            short = min(width, height)
            resized = np.array([size * width // short, size * height // short], dtype=np.float64)
            offsets = [round((side - size) / 2) for side in resized.tolist()]
            scale = self.extent / resized
            self.corner = np.array(offsets, dtype=np.float64) * scale
            self.extent = size * scale

    def boxes(self, boxes: Boxes) -> Boxes:
        """Return the boxes in the square, their corners on the borders of pixels.

        Boxes are cut to the square, and those outside are dropped. A box is difficult if it was,
        or if less than `MIN_VISIBLE` of it is inside.
        """
        corners = boxes.corners.astype(np.float64).reshape(-1, 2, 2)
        corners[:, 1] += 1  # the last row and column belong to the box
        uncut = (corners - self.corner) * self.size / self.extent
        cut = uncut.clip(0, self.size)
        areas, visible = (np.prod(edges[:, 1] - edges[:, 0], axis=1) for edges in (uncut, cut))
        kept = (cut[:, 1] - cut[:, 0]).min(axis=1, initial=np.inf) > MIN_SIDE
        difficult = boxes.difficult | (visible < MIN_VISIBLE * areas)
        corners = cut.reshape(-1, 4)[kept].astype(np.float32)
        return Boxes(corners, boxes.labels[kept], difficult[kept])

    def mask(self, mask: numpy.ndarray) -> numpy.ndarray:
        """Return the (S, S) mask of the square: the nearest pixel of the (H, W) original."""
        centers = (np.arange(self.size) + 0.5) / self.size
        columns, rows = (
            (corner + centers * extent).astype(np.int64).clip(0, side - 1)
            for corner, extent, side in zip(self.corner, self.extent, mask.shape[::-1], strict=True)
        )
        return mask[rows[:, None], columns]


def square_of(annotations: PackedAnnotations, row: int, images: Images) -> Square:
    """Return the map from the original of the image in `row` to its packed square."""
    width, height = annotations.sizes[row].tolist()
    return Square(width, height, images.size, images.card.fit)


def row_blocks(count: int, size: int) -> list[numpy.ndarray]:
    """Return the rows 0 ... count - 1 in blocks of `size`; the last may be smaller."""
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def require_finite(scores: numpy.ndarray) -> numpy.ndarray:
    """Return the scores of images; TransferError if one is not a finite number."""
    if not np.isfinite(scores).all():
        raise TransferError("the network's scores are not finite numbers; lower `learning_rate`")
    return scores
