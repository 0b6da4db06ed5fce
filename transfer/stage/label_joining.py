"""Pseudo-labels and the images that are trained on: which each image has, and an order in which all come alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images, PseudoLabels
    from transfer.stage.context import StageContext


def labels_for_images(pseudo: PseudoLabels, images: Images, context: StageContext) -> numpy.ndarray:
    """(N,) int64: the pseudo-label of each image, by its id; -1 where it has none, of which a person is told."""
    labels = pseudo.of(images.ids)
    without = int((labels < 0).sum())
    if without == len(images):
        raise TransferError("none of the images has a pseudo-label: the labels are of another set")
    if without:
        context.note(f"{without} of {len(images)} images have no pseudo-label and are left out")
    return labels


def class_balanced_order(seed: int, rows: numpy.ndarray, labels: numpy.ndarray) -> numpy.ndarray:
    """(len(rows),) rows, in which every label comes equally often; the images of a label take turns.

    labels: those of `rows`, one each.
    """
    random = np.random.RandomState(seed % (1 << 32))
    by_label = labels.argsort(kind="stable")
    ends = np.flatnonzero(np.diff(labels[by_label])) + 1
    groups = [random.permutation(group) for group in np.split(rows[by_label], ends)]
    turns = -(-len(rows) // len(groups))
    taken = np.stack([np.resize(group, turns) for group in groups], axis=1)
    # Each turn has every label once, in an order of its own.
    return np.concatenate([random.permutation(turn) for turn in taken])[: len(rows)]
