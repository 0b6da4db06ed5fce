"""The samples of a WebDataset shard: the image and the label of each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer.datasets.card_schema import Tar
from transfer.datasets.readers.archive_index import MemberLocation, tar_index
from transfer.datasets.readers.archive_tree import read_member
from transfer.datasets.readers.left_out import TEXT_FILE, Entry, suffix_reason
from transfer.datasets.readers.member_names import SUFFIXES, is_image, nfc, passed_over
from transfer.datasets.readers.sample_names import (
    Members,
    choice,
    dotted_images,
    group_by_sample,
)
from transfer.errors import BadImage

FIRST = ("jpg", "jpeg", "png", "webp")  # the suffixes that were read from the beginning
MAX_LABEL_BYTES = 1 << 20
LABEL_SUFFIXES = ("cls", "json")  # where the card names none


@dataclass
class ShardIndex:
    """What a shard holds.

    `samples` are [key, offset, bytes, label] of each sample's image, in the order of the shard. The
    label is a number, a name, or None. `left_out` are the files that are not taken, `lost` the
    labels of samples whose image is not read, with its suffix, `faults` the samples that cannot be
    used, `later` the number of samples that the first version did not read.
    """

    samples: list[list[Any]] = field(default_factory=list)
    left_out: list[Entry] = field(default_factory=list)
    lost: list[tuple[int | str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    later: int = 0


def index_samples(shard: Path, recipe: Tar, skip: bool = False) -> ShardIndex:
    """Return the samples of a shard; with `skip`, links in it are left out, not refused."""
    archive = tar_index(shard, skip)
    index = ShardIndex(left_out=list(archive.passed))
    files: dict[str, MemberLocation] = {}
    passed: set[Entry] = set()
    for name, location in archive.files.items():
        if (entry := passed_over(name)) is not None:
            passed.add(entry)
        else:
            files[name] = location
    index.left_out += sorted(passed)
    named, labels = [recipe.image] if recipe.image else [], _label_suffixes(recipe)
    suffixes = named or [suffix[1:] for suffix in SUFFIXES]
    groups, faults = group_by_sample(files, suffixes, labels, chosen=bool(named))
    for key, members in groups.items():
        try:
            if key in faults:
                raise ValueError(faults[key])
            _add_sample(index, key, members, _Shard(shard, recipe, suffixes, labels, files))
        except (ValueError, BadImage) as error:
            index.faults.append(f"{key}: {error}")
    return index


@dataclass(frozen=True)
class _Shard:
    """A shard that is indexed, and how its files are named."""

    path: Path
    recipe: Tar
    image_suffixes: Sequence[str]
    label_suffixes: Sequence[str]
    files: dict[str, MemberLocation]


def _add_sample(index: ShardIndex, key: str, members: Members, shard: _Shard) -> None:
    """Add a sample, or its files to those that are left out; ValueError explains a fault."""
    images = [suffix for suffix in shard.image_suffixes if suffix in members]
    images = images or dotted_images(members, shard.image_suffixes)
    # Of a photograph and its mask in another format, the photograph is read as ever.
    images = [suffix for suffix in images if suffix in FIRST] or images
    if len(images) > 1:
        raise ValueError(choice(images))
    label_suffix = next((suffix for suffix in shard.label_suffixes if suffix in members), None)
    label = _label(shard, members, label_suffix)
    others = {suffix: name for suffix, name in members.items() if suffix != label_suffix}
    if images:
        is_plain = "." not in key.rpartition("/")[2] and images[0] in (*FIRST, shard.recipe.image)
        index.later += not is_plain
        image = shard.files[others.pop(images[0])]
        index.samples.append([key, image.start, image.size, label])
    elif label_suffix is None or label is None:
        others = members
    elif not (unread := {suffix_reason(name) for name in others.values()} - {TEXT_FILE}):
        raise ValueError("it has a label but no image")
    else:
        index.lost.append((label, min(unread)))
    index.left_out += [(name, _reason(suffix, name)) for suffix, name in others.items()]


def _reason(suffix: str, name: str) -> str:
    """Return the reason of a file of a sample: `.seg.png` is a second image, such as a mask."""
    if not is_image(name):
        return suffix_reason(name)
    return f".{suffix}" if re.fullmatch(r"[a-z_]+\.[a-z]+", suffix) else "second image"


def _label_suffixes(recipe: Tar) -> Sequence[str]:
    named = (recipe.label or "").partition(":")[0]
    return (named,) if named else LABEL_SUFFIXES


def _label(shard: _Shard, members: Members, suffix: str | None) -> int | str | None:
    if suffix is None:
        return None
    place = shard.files[members[suffix]]
    if place.size > MAX_LABEL_BYTES:
        raise ValueError(f"its {suffix} is too large for a label")
    text = read_member(shard.path, place).decode("utf-8").strip()
    if suffix == "json":
        return _json_label(text, shard.recipe)
    return int(text) if re.fullmatch(r"[+-]?\d{1,9}", text) else nfc(text)


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
    return nfc(value) if isinstance(value, str) else value
