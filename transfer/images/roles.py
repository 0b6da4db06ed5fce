"""Stages that read several splits of one set: which split is which, and which images of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.images.spec import ImageSpec

if TYPE_CHECKING:
    from transfer.stage import Stage

SCORED = ("test", "val")  # what splits that are scored are called, or begin with


def spec_for(split: str, data: ImageSpec) -> ImageSpec:
    """What a stage that reads several splits reads for one: subsets are of training images, never of the scored.

    A split that `data` names for the whole file is meant for the stages that read one.
    """
    changes: dict[str, Any] = {} if isinstance(data.split, dict) else {"split": None}
    if split.startswith(SCORED):
        changes |= {"per_class": None, "fraction": None, "limit": None, "subset_seed": 0}
    return data.model_copy(update=changes)


def split_fault(kind: type[Stage], data: ImageSpec) -> str:
    """What is wrong with the split that a stage's own `data` names; empty where nothing is."""
    wanted = [images.split for images in kind.images.values()]
    if isinstance(data.split, dict):
        unknown = [name for name in data.split if name not in wanted]
        return f"the stage reads {' and '.join(wanted)}, not '{unknown[0]}'" if unknown else ""
    if data.split is not None and len(wanted) > 1:
        return f"the stage reads {' and '.join(wanted)}: say which is which, as in {{{wanted[0]}: {data.split}}}"
    return ""


def overlap(splits: dict[str, str], kind: type[Stage]) -> str:
    """What is wrong where the images of one role are among another's (role -> split); empty where nothing is."""
    if not {"trainval", "val"} <= {*splits.values()}:
        return ""
    role = next(role for role, split in splits.items() if split == "trainval")
    return (
        "would be scored on `val`, which is a part of `trainval`: say, in its `data:`, "
        f"`split: {{{kind.images[role].split}: train}}`"
    )
