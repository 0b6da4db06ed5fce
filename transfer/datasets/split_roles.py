"""Stages that read several splits of one set: which split is which, and which images of it."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

from transfer.datasets.spec import ImageSpec

if TYPE_CHECKING:
    from transfer.stage.base import Stage

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
    for (one, large), (other, small) in permutations(splits.items(), 2):
        if not within(small, large):
            continue
        wanted = kind.images[one].split
        if small == large:
            both = f"reads the split `{small}` as `{wanted}` and as `{kind.images[other].split}`"
            return f"{both}: what is scored must not be learned from. Give the set two splits, such as folders of them"
        advice = (
            f", `split: {{{wanted}: train}}`"
            if (large, small) == ("trainval", "val")
            else ", other splits"
        )
        which = f"scored on `{small}`" if other == "test" else f"taught `{small}`"
        return f"would be {which}, which is a part of `{large}`: say, in its `data:`{advice}"
    return ""


def within(small: str, large: str) -> bool:
    """Whether images of one split are among those of another, as splits are named: `train_1percent` is of `train`."""
    return (
        small == large
        or small.startswith(f"{large}_")
        or (large == "trainval" and small in ("train", "val"))
    )
