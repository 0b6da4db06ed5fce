"""Names of many files in one: {000..146}, {a,b} and *."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from transfer.errors import UsageError
from transfer.utils.formatting import fault_list

BRACES = re.compile(r"\{([^{}]*)\}")
MAX_SHARDS = 1_000_000


def expand(pattern: Path) -> list[Path]:
    """The files that a pattern with {000..146}, {a,b} and * stands for; UsageError where one is missing."""
    found: list[Path] = []
    for text in itertools.islice(_braces(str(pattern)), MAX_SHARDS):
        if any(one in text for one in "*?["):
            top = Path(Path(text).anchor or ".")
            matched = (
                sorted(top.glob(str(Path(text).relative_to(top))))
                if Path(text).is_absolute()
                else []
            )
            if not matched:
                raise UsageError(f"there are no files {text}")
            found += matched
        else:
            found.append(Path(text))
    if missing := [str(path) for path in found if not path.exists()]:
        raise UsageError(
            f"{len(missing)} of {len(found)} shards of {pattern} are not there:{fault_list(missing)}"
        )
    if len({*found}) < len(found):
        raise UsageError(f"{pattern} names a shard twice")
    return found


def _braces(text: str) -> Iterator[str]:
    found = BRACES.search(text)
    if found is None:
        yield text
        return
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if last < first or last - first >= MAX_SHARDS:
            raise UsageError(f"{{{found[1]}}} is no range of shards")
        width = (
            len(numbers[1])
            if numbers[1].startswith("0") or len(numbers[1]) == len(numbers[2])
            else 0
        )
        choices = (f"{number:0{width}}" for number in range(first, last + 1))
    else:
        choices = iter(found[1].split(","))
    for choice in choices:
        for rest in _braces(text[found.end() :]):
            yield text[: found.start()] + choice + rest
