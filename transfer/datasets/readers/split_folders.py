"""Folders, shards and groups whose names are splits: train, Training, val, validation, dev."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from transfer.datasets.readers.base import SPLIT_NAMES, split_of
from transfer.datasets.readers.left_out import shown_name
from transfer.errors import UsageError
from transfer.utils.formatting import plural

SEPARATING = re.compile(r"(?<=[\0-\x7f])\\")  # not half of a letter of Shift-JIS


def split_folders(place: object, folders: Iterable[str], with_images: set[str]) -> dict[str, str]:
    """Return split -> folder; empty where the folders are classes.

    A folder `train` is always a split. `Train` is a class in `Train/`, `Car/`, `Boat/`, and a split
    beside `Test/` or alone. UsageError where two folders are the same split.

    Args:
        place: the folder of the set, for messages.
        folders: its subfolders.
        with_images: those that hold images.
    """
    folders = list(folders)
    exact = [name for name in folders if name in SPLIT_NAMES]
    named = [name for name in folders if split_of(name) and (name in with_images or name in exact)]
    others = [name for name in with_images if not split_of(name)]
    splits = {split_of(name) for name in named}
    if not named or (not exact and others and len(splits) < 2):
        return {}
    empty = [name for name in folders if split_of(name) and split_of(name) not in splits]
    folder_of = unique_splits(f"folder {place}", [*named, *empty])
    return {split: folder_of[split] for split in SPLIT_NAMES if split in folder_of}


def hint_of_splits_below(place: Path, names: Iterable[str]) -> str:
    """Return a hint where a folder of the set holds splits: the set was named one level too high.

    Args:
        place: the folder of the set.
        names: of its images.
    """
    below: dict[str, set[str]] = {}
    for top, _, rest in (name.partition("/") for name in names):
        folder, slash, _ = rest.partition("/")
        if slash and split_of(folder):
            below.setdefault(top, set()).add(folder)
    for top, folders in below.items():
        if len({split_of(folder) for folder in folders}) > 1:
            meant = f"did you mean {place / top}?" if place.is_dir() else "unpack it and name that"
            return f"{top} holds {' and '.join(sorted(folders))}: {meant}"
    return ""


def hint_of_backslashes(names: Iterable[str]) -> str:
    """Return a hint where names of images hold backslashes, as a bad unpacking of a zip leaves."""
    slashed = [name for name in names if "\\" in name and SEPARATING.search(name)]
    if not slashed:
        return ""
    verb = "holds a backslash" if len(slashed) == 1 else "hold backslashes"
    return (
        f"{plural(len(slashed), 'name')} of images {verb}, which separate folders in a zip only "
        f"({shown_name(slashed[0])}): rename them, or unpack them again"
    )


def unique_splits(place: object, names: Iterable[str]) -> dict[str, str]:
    """Return split -> name, of the names of splits; UsageError where two are the same split."""
    name_of: dict[str, str] = {}
    for name in names:
        split = split_of(name)
        if split in name_of:
            raise UsageError(
                f"{place}: '{name_of[split]}' and '{name}' are both the split '{split}'; "
                "join them, or rename one of them"
            )
        if split is not None:
            name_of[split] = name
    return name_of
