"""What the labels of a planned split say before it is packed: images of each class, and masks.

Labels are read once for the same images and subset; the facts are kept with the surveys.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from transfer.datasets.packed.pack_stage import Pack
from transfer.stage.base import ImagePack
from transfer.utils.lazy_imports import np
from transfer.utils.stamp_cache import StampCache


class AnnotationFacts(NamedTuple):
    """The annotated images of a split: for each class, how many show it and how many do not."""

    shown: list[int]
    absent: list[int]
    unmasked: str  # id of an image without a mask; empty where each has one


def class_counts(pack: ImagePack) -> dict[int, int]:
    """Return label -> images of the subset; empty for a split without labels.

    Images that cannot be decoded are counted too.

    Raises:
        TransferError: the subset asks for a class, or for images of one, that do not exist.
    """
    assert isinstance(pack, Pack), "image sets are packed by Pack"

    def count() -> dict[str, int]:
        _, labels = pack.subset_rows()
        if labels is None:
            return {}
        values, counts = np.unique(labels, return_counts=True)
        return dict(zip(map(str, values.tolist()), counts.tolist(), strict=True))

    facts = _kept(pack, "classes", count)
    return {int(label): images for label, images in facts.items()}


def class_name(pack: ImagePack, label: int) -> str:
    """Return the name of a class of the subset, or its number where classes have no names."""
    assert isinstance(pack, Pack), "image sets are packed by Pack"
    names = pack.spec.classes or pack.classes
    return names[label] if label < len(names) else str(label)


def depends_on_labels(pack: ImagePack) -> bool:
    """Whether the number of images of the subset depends on their labels."""
    assert isinstance(pack, Pack), "image sets are packed by Pack"
    return bool(pack.spec.classes or pack.spec.per_class)


def image_count(pack: ImagePack) -> int:
    """Return the number of images of the subset, before those that cannot be decoded are skipped.

    Raises:
        TransferError: as `class_counts`.
    """
    return sum(class_counts(pack).values()) if depends_on_labels(pack) else pack.count


def annotation_facts(pack: ImagePack) -> AnnotationFacts:
    """Return what the annotations of a split show; UsageError where they cannot be read."""
    assert isinstance(pack, Pack), "image sets are packed by Pack"

    def count() -> dict[str, Any]:
        listing = pack.origin.open().listing(pack.split)
        annotations = listing.annotations
        assert annotations is not None, "the plan refuses sets without annotations"
        rows = pack.subset_rows()[0].tolist()
        targets = annotations.targets[rows]
        unmasked = (listing.ids[row] for row in rows if annotations.mask(row) is None)
        shown, absent = ((targets == sign).sum(axis=0).tolist() for sign in (1, -1))
        return AnnotationFacts(shown, absent, next(unmasked, ""))._asdict()

    return AnnotationFacts(**_kept(pack, "annotations", count))


def _kept(pack: Pack, kind: str, count: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return facts about a subset, which are counted once for the same images."""
    identity = json.dumps([kind, pack.identity()], sort_keys=True, default=str)
    memory, place = StampCache(pack.memory), Path("label facts", identity)
    known = memory.recall(place)
    if "facts" not in known:
        known = {"facts": count()}
        memory.keep(place, known)
    return known["facts"]
