"""Patterns that name several files: {000..146}, {a,b} and *."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from transfer.datasets.readers.member_names import is_hidden
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list
from transfer.utils.paths import broken_link

BRACES = re.compile(r"\{([^{}]*)\}")
MAX_SHARDS = 1_000_000


def is_pattern(path: str) -> bool:
    """Whether a path names several files."""
    return any(sign in path for sign in "{*?")


def matches_any(pattern: Path) -> bool:
    """Whether a file of a pattern exists; UsageError for an invalid range."""
    texts = itertools.islice(_expand_braces(str(pattern)), MAX_SHARDS)
    return any(Path(text).exists() or _glob(Path(text)) for text in texts)


def expand(pattern: Path) -> list[Path]:
    """Return the files of a pattern with {000..146}, {a,b} and *, in its order.

    UsageError where a file is missing or is named twice.
    """
    paths: list[Path] = []
    for text in itertools.islice(_expand_braces(str(pattern)), MAX_SHARDS):
        if not any(wildcard in text for wildcard in "*?["):
            paths.append(Path(text))
            continue
        matches = _glob(Path(text))
        if not matches:
            raise UsageError(f"{text} matches no files")
        paths += matches
    if missing := [f"{path}{broken_link(path)}" for path in paths if not path.exists()]:
        raise UsageError(
            f"{pattern}: {len(missing)} of {len(paths)} shards do not exist:{fault_list(missing)}"
        )
    if len({*paths}) < len(paths):
        raise UsageError(f"{pattern} names a shard twice")
    return paths


def _glob(pattern: Path) -> list[Path]:
    if not pattern.is_absolute():
        return []
    top, named = Path(pattern.anchor), set(pattern.parts)
    matches = sorted(top.glob(str(pattern.relative_to(top))))
    # As in a shell, a wildcard matches no hidden name; nor does it match those of systems.
    return [
        path
        for path in matches
        if not is_hidden("/".join(part for part in path.parts[1:] if part not in named))
    ]


def _expand_braces(text: str) -> Iterator[str]:
    braces = BRACES.search(text)
    if braces is None:
        yield text
        return
    for choice in _choices(braces[1]):
        for rest in _expand_braces(text[braces.end() :]):
            yield text[: braces.start()] + choice + rest


def _choices(content: str) -> Iterable[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", content)
    if not numbers:
        return content.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if last < first or last - first >= MAX_SHARDS:
        raise UsageError(f"{{{content}}} is not a range of shards")
    padded = numbers[1].startswith("0") or len(numbers[1]) == len(numbers[2])
    width = len(numbers[1]) if padded else 0
    return (f"{number:0{width}}" for number in range(first, last + 1))
