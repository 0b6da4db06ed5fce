"""The shards in a folder: of one split, of splits in their names, or of a folder for each split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transfer.datasets.readers.base import SPLIT_NAMES, split_of
from transfer.datasets.readers.left_out import Entry, suffix_reason
from transfer.datasets.readers.member_names import system_reason
from transfer.datasets.readers.read_errors import report_errors
from transfer.datasets.readers.shard_patterns import expand, is_pattern
from transfer.datasets.readers.split_folders import unique_splits
from transfer.errors import UsageError


@dataclass(frozen=True)
class ShardFolder:
    """The shards of each split, and the files beside them that are not taken."""

    shards: dict[str, list[Path]]
    others: dict[str, list[Entry]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split in self.shards:
            self.others.setdefault(split, [])


def shards_in(folder: Path) -> ShardFolder:
    """Return the shards in a folder; UsageError where it holds none, or several layouts."""
    flat, folders, others = _contents(folder)
    inside = {subfolder: _contents(subfolder) for subfolder in folders}
    filled = [path.name for path in folders if split_of(path.name) and inside[path][0]]
    others += [(path.name, "other folder") for path in folders if path.name not in filled]
    splits = {split: folder / name for split, name in unique_splits(folder, filled).items()}
    if splits and flat:
        raise UsageError(f"{folder} holds both shards ({flat[0].name}, ...) and folders of splits")
    if splits:
        names = [split for split in SPLIT_NAMES if split in splits]
        return ShardFolder(
            {split: inside[splits[split]][0] for split in names},
            {split: _all_others(inside[splits[split]], others) for split in names},
        )
    if not flat:
        raise UsageError(f"{folder} holds no tar shards")
    named = _by_split(flat)
    if "" in named:
        if len(named) > 2:
            raise _outside(folder, named)
        named = {"": flat}
    shards_of = {split: named[split] for split in SPLIT_NAMES if split in named} or {"all": flat}
    return ShardFolder(shards_of, {split: list(others) for split in shards_of})


def shards_of_pattern(pattern: Path) -> ShardFolder:
    """Return the shards of a pattern; a wildcard that matches several splits joins none of them.

    A pattern that names a split, such as `{train,val}-*.tar`, is one split as it stands.
    """
    shards = expand(pattern)
    named = _by_split(shards)
    wild = next((row for row, part in enumerate(pattern.parts) if is_pattern(part)), None)
    words = re.findall(r"[A-Za-z]+", "/".join(pattern.parts[wild:]))
    if len(named.keys() - {""}) < 2 or any(split_of(word) for word in words):
        return ShardFolder({"all": shards})
    if "" in named:
        raise _outside(pattern, named)
    return ShardFolder({split: named[split] for split in SPLIT_NAMES if split in named})


def _by_split(shards: list[Path]) -> dict[str, list[Path]]:
    """Return the shards of each split that their names or folders are; "" without a split.

    The name of the folder counts where the shards lie in several.
    """
    named: dict[str, list[Path]] = {}
    has_folders = len({shard.parent for shard in shards}) > 1
    for shard in shards:
        folder = (split_of(shard.parent.name) or "") if has_folders else ""
        named.setdefault(_split_in(shard.name) or folder, []).append(shard)
    return named


def _outside(place: Path, named: dict[str, list[Path]]) -> UsageError:
    """Return the error of shards beside those of splits; `named` has them under ""."""
    firsts = ", ".join(named[split][0].name for split in SPLIT_NAMES if split in named)
    more = ", ..." if len(named[""]) > 1 else ""
    return UsageError(
        f"{place} holds splits ({firsts}) and shards outside of them ({named[''][0].name}{more}): "
        "move the shards, or rename those that are not splits "
        f"(splits are {', '.join(SPLIT_NAMES)})"
    )


def _split_in(name: str) -> str:
    """Return the split that the name of a shard begins with: `train-000.tar`; "" without."""
    word = re.match(r"([A-Za-z]+)[-_.\d]", name)
    return (split_of(word[1]) or "") if word else ""


def _contents(folder: Path) -> tuple[list[Path], list[Path], list[Entry]]:
    """Return the shards and subfolders of a folder, and the files that are neither."""
    shards, folders, others = [], [], []
    with report_errors(f"folder {folder}"):
        entries = sorted(folder.iterdir())
    for path in entries:
        is_folder = path.is_dir()
        if reason := system_reason(path.name, is_folder):
            others.append((path.name, reason))
        elif is_folder:
            folders.append(path)
        elif path.name.lower().endswith(".tar"):
            shards.append(path)
        else:
            others.append((path.name, suffix_reason(path.name)))
    return shards, folders, others


def _all_others(
    contents: tuple[list[Path], list[Path], list[Entry]], outside: Sequence[Entry]
) -> list[Entry]:
    _, folders, others = contents
    return [*others, *((path.name, "other folder") for path in folders), *outside]
