"""The images that a stage reads, and what it may know of them beforehand."""

from __future__ import annotations

from dataclasses import dataclass


class ImageInput:
    """The images that a stage reads if the pipeline file names no split.

    Args:
        split: the preferred split. A set without `unlabeled` gives its `train`; a set of one split
            gives that one.
        same_as: an input whose images are read instead, such as pseudo-labels.
        needs_labels: refuse a split without labels.
    """

    def __init__(self, split: str, same_as: str | None = None, needs_labels: bool = False):
        self.split, self.same_as, self.needs_labels = split, same_as, needs_labels


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about packed images, available before any image is read."""

    size: int  # side in px
    count: int  # images
    classes: int  # classes of the labels; 0 without labels
