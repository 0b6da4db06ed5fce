"""The samples of a WebDataset shard: the image and the label of each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from transfer.datasets.card_schema import Tar
from transfer.datasets.readers.archive_index import MemberLocation, tar_index
from transfer.datasets.readers.archive_tree import read_member
from transfer.datasets.readers.member_names import SUFFIXES, is_hidden
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list, plural

MAX_LABEL_BYTES = 1 << 20
LABEL_SUFFIXES = ("cls", "json")  # where the card names none


def index_samples(shard: Path, recipe: Tar) -> list[list[Any]]:
    """Return [key, offset, bytes, label] of each sample's image, in the order of the shard.

    The label is a number, a name, or None. UsageError lists the samples that cannot be used.
    """
    files: dict[str, dict[str, MemberLocation]] = {}
    for name, location in tar_index(shard).items():
        if not is_hidden(name):
            folder, slash, base = name.rpartition("/")
            key, _, suffix = base.partition(".")
            files.setdefault(folder + slash + key, {})[suffix.lower()] = location
    samples, faults = [], []
    for key, members in files.items():
        try:
            image = _image(members, recipe)
            if image is not None:
                samples.append([key, image.start, image.size, _label(shard, members, recipe)])
        except ValueError as error:
            faults.append(f"{key}: {error}")
    if faults:
        count = plural(len(faults), "sample")
        raise UsageError(f"{shard}: {count} cannot be used:{fault_list(faults)}")
    return samples


def _image(members: dict[str, MemberLocation], recipe: Tar) -> MemberLocation | None:
    """Return a sample's image; None for files without an image, such as a readme."""
    suffixes = [recipe.image] if recipe.image else [suffix[1:] for suffix in SUFFIXES]
    present = [suffix for suffix in suffixes if suffix in members]
    if len(present) > 1:
        raise ValueError(
            f"it has {' and '.join(present)}: choose with `tar: {{image: {present[0]}}}` in a card"
        )
    if present:
        return members[present[0]]
    if _label_suffix(members, recipe) is not None:
        raise ValueError("it has a label but no image")
    return None


def _label_suffix(members: dict[str, MemberLocation], recipe: Tar) -> str | None:
    named = (recipe.label or "").partition(":")[0]
    suffixes = (named,) if named else LABEL_SUFFIXES
    return next((suffix for suffix in suffixes if suffix in members), None)


def _label(shard: Path, members: dict[str, MemberLocation], recipe: Tar) -> int | str | None:
    suffix = _label_suffix(members, recipe)
    if suffix is None:
        return None
    if members[suffix].size > MAX_LABEL_BYTES:
        raise ValueError(f"its {suffix} is too large for a label")
    text = read_member(shard, members[suffix]).decode("utf-8").strip()
    if suffix == "json":
        return _json_label(text, recipe)
    return int(text) if re.fullmatch(r"[+-]?\d{1,9}", text) else text


def _json_label(text: str, recipe: Tar) -> int | str | None:
    field = (recipe.label or "json:label").partition(":")[2] or "label"
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError("its json is nested too deeply") from error
    value = content.get(field) if isinstance(content, dict) else None
    if value is None and recipe.label:
        raise ValueError(f"its json has no field '{field}'")
    if value is not None and type(value) not in (int, str):
        raise ValueError(f"its label is neither a whole number nor a name: {value!r}")
    return value
