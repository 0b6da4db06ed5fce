"""Splits of stages that read several of one set: the data of each role, and their overlaps."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

from transfer.datasets.spec import ImageSpec

if TYPE_CHECKING:
    from transfer.stage.base import Stage

SCORED = ("test", "val")  # splits that are scored start with these


def spec_for(split: str, data: ImageSpec) -> ImageSpec:
    """Return the data of one split of a stage that reads several.

    Subsets apply to training images, never to scored ones. A single split that `data` names for
    the whole file applies only to the stages that read one.
    """
    changes: dict[str, Any] = {} if isinstance(data.split, dict) else {"split": None}
    if split.startswith(SCORED):
        changes |= {"per_class": None, "fraction": None, "limit": None, "subset_seed": 0}
    return data.model_copy(update=changes)


def split_fault(kind: type[Stage], data: ImageSpec) -> str:
    """Return the fault of the split that a stage's own `data` names; empty if it has none."""
    expected = [images.split for images in kind.images.values()]
    names = " and ".join(expected)
    if isinstance(data.split, dict):
        unknown = [name for name in data.split if name not in expected]
        return f"the stage reads {names}, not '{unknown[0]}'" if unknown else ""
    if data.split is not None and len(expected) > 1:
        return (
            f"the stage reads {names}: give a split for each, as in {{{expected[0]}: {data.split}}}"
        )
    return ""


def overlap(splits: dict[str, str], kind: type[Stage]) -> str:
    """Return the fault of two roles that share images; empty if none do.

    Args:
        splits: role -> split.
        kind: the class of the stage.
    """
    for (role, large), (other_role, small) in permutations(splits.items(), 2):
        if not within(small, large):
            continue
        expected, other_expected = kind.images[role].split, kind.images[other_role].split
        if small == large:
            return (
                f"reads the split `{small}` as `{expected}` and as `{other_expected}`, but "
                "training and test images must differ. Use two splits, such as the folders "
                "`train/` and `test/`"
            )
        use = "scored" if other_role == "test" else "trained"
        remedy = "set other splits in its `data:`"
        if (large, small) == ("trainval", "val"):
            remedy = f"set `split: {{{expected}: train}}` in its `data:`"
        return f"would be {use} on `{small}`, which is a part of `{large}`; {remedy}"
    return ""


def within(small: str, large: str) -> bool:
    """Whether the images of one split are among those of another, judged by the names.

    `train_1percent` is a part of `train`; `train` and `val` are parts of `trainval`.
    """
    return (
        small == large
        or small.startswith(f"{large}_")
        or (large == "trainval" and small in ("train", "val"))
    )
