# pyright: strict
"""Pseudo-labels for the images to train on, and an order in which all labels come equally often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images, PseudoLabels
    from transfer.stage.context import StageContext


def labels_for_images(pseudo: PseudoLabels, images: Images, context: StageContext) -> numpy.ndarray:
    """Return (N,) int64: the pseudo-label of each image, matched by id; -1 where it has none.

    A note states how many images have none. TransferError if that is true of all.

    Args:
        pseudo: the pseudo-labels.
        images: the N images.
        context: takes the note.
    """
    labels = pseudo.of(images.ids)
    without = int((labels < 0).sum())
    if without == len(images):
        raise TransferError("none of the images has a pseudo-label: the labels are of another set")
    if without:
        context.note(f"{without} of {len(images)} images have no pseudo-label and are left out")
    return labels


def class_balanced_order(seed: int, rows: numpy.ndarray, labels: numpy.ndarray) -> numpy.ndarray:
    """Return (n,) rows in which every label comes equally often; the rows of a label take turns.

    Args:
        seed: decides the order.
        rows: (n,) rows to choose from.
        labels: (n,) labels of `rows`.
    """
    random = np.random.RandomState(seed % (1 << 32))
    by_label = labels.argsort(kind="stable")
    ends = np.flatnonzero(np.diff(labels[by_label])) + 1
    groups = [random.permutation(group) for group in np.split(rows[by_label], ends)]
    turns = -(-len(rows) // len(groups))
    by_turn = np.stack([np.resize(group, turns) for group in groups], axis=1)
    # Each turn has every label once, in a random order.
    return np.concatenate([random.permutation(turn) for turn in by_turn])[: len(rows)]
