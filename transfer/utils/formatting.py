"""Values as text: file sizes, durations, counts, figures, YAML scalars, matrix members."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "–"
MAX_VALUE_LENGTH = 80  # characters of a value in a message
LISTED_FAULTS = 10


def file_size(count: int) -> str:
    """Format bytes in decimal units: `831 B`, `1.0 kB`, `13.7 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float | None) -> str:
    """Format seconds: `0.3 s`, `38 s`, `2.5 min`, `1.2 h`; a dash for None."""
    if seconds is None:
        return MISSING
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"


def plural(count: int, noun: str, plural_noun: str = "") -> str:
    """Format a count with its noun: `1 entry`, `1,200 entries`."""
    return f"{count:,} {noun if count == 1 else plural_noun or noun + 's'}"


def counted(count: int, kind: str) -> str:
    """Format a count of a kind of files: `6 .bmp`, `2 broken links`, `1 file without rights`."""
    if kind.startswith("."):
        return f"{count:,} {kind}"
    noun, *rest = re.split(r"(?= (?:without|of) )", kind, maxsplit=1)
    return plural(count, noun) + "".join(rest)


def figure_text(value: Any) -> str:
    """Format a float with four digits, counts by kind as `6 .bmp + 2 links`, others with `str`."""
    if isinstance(value, dict):
        kinds = sorted(value, key=lambda kind: (-value[kind], kind))
        texts = [counted(value[kind], kind) for kind in kinds]
    elif isinstance(value, list):
        texts = list(map(str, value))
    else:
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    more = len(texts) - LISTED_FAULTS
    return " + ".join([*texts[:LISTED_FAULTS], *([f"{more} more"] if more > 0 else [])])


def figure_texts(figures: Mapping[str, Any], separator: str = " ") -> list[str]:
    """Format each figure with its name and unit."""
    return [f"{name}{separator}{named_figure_text(name, value)}" for name, value in figures.items()]


def inline_yaml(value: Any) -> str:
    """Format a value as one line of YAML."""
    plain = value is not None and not isinstance(value, (bool, list, dict))
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def value_text(value: Any) -> str:
    """Format a value of a pipeline file for a message, shortened to fit a line."""
    if value is None:
        text = "nothing"
    else:
        text = inline_yaml(value) if isinstance(value, bool) else repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 3]}..."


def member_label(variables: Mapping[str, Any]) -> str:
    """Return the label of a matrix member: `method=rotation,k=200`; empty without variables."""
    return ",".join(f"{name}={inline_yaml(value)}" for name, value in variables.items())


def fault_list(faults: Sequence[str]) -> str:
    """Format faults on indented lines: the first ten, and the number of the others."""
    more = len(faults) - LISTED_FAULTS
    lines = [*faults[:LISTED_FAULTS], *([f"... and {more} more"] if more > 0 else [])]
    return "".join(f"\n  {line}" for line in lines)


def named_figure_text(name: str, value: Any) -> str:
    """Format a figure by its name: `92.1 %` for an accuracy from 0 to 1, `1,200` for a count."""
    if isinstance(value, float) and name.endswith("accuracy"):
        return f"{100 * value:.1f} %"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return figure_text(value)
