"""Which files changed from one fingerprint of a split to another, for the plan."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transfer.datasets.origin import Origin
from transfer.datasets.readers.base import Split, Survey
from transfer.datasets.readers.file_digests import ADDED, CHANGED, REMOVED
from transfer.utils.stamp_cache import StampCache

KEPT_STEPS = 20
KEPT_CHANGES = 100  # of a step
SHOWN_CHANGES = 3


def record_changes(memory: StampCache, origin: Origin, survey: Survey, split: str) -> None:
    """Keep what a survey noticed: the next survey will not notice it again.

    Args:
        memory: where facts about the set are kept.
        origin: the set.
        survey: what is known of the set now.
        split: the split that is read; a survey of a folder looks at the others too.
    """
    looked_at = [*survey.splits] if isinstance(survey.splits, dict) else [split]
    for name in looked_at:
        if name in survey.splits:
            _record(memory, _place(origin, name), survey.splits[name])


def _record(memory: StampCache, place: Path, split: Split) -> None:
    facts = memory.recall(place)
    last = facts.get("last")
    if last == split.fingerprint:
        return
    steps: list[Any] = facts.get("steps", [])
    if last is not None:
        kept = split.changes[:KEPT_CHANGES]
        steps = [*steps, [last, kept, len(split.changes) - len(kept)]][-KEPT_STEPS:]
    memory.keep(place, {"last": split.fingerprint, "steps": steps})


def changes_since(memory: StampCache, origin: Origin, split: str, former: str) -> str:
    """Return `images changed: a.png was added and 2 more` since a former fingerprint.

    Args:
        memory: where facts about the set are kept.
        origin: the set.
        split: the split.
        former: the fingerprint that the split had.
    """
    steps = memory.recall(_place(origin, split)).get("steps", [])
    starts = [number for number, step in enumerate(steps) if step[0] == former]
    later = steps[starts[-1] :] if starts else []
    changes = _joined(change for _, kept, _ in later for change in kept)
    count = len(changes) + sum(more for _, _, more in later)
    if not changes:
        return "images changed"
    shown = ", ".join(" ".join(change.split()) for change in changes[:SHOWN_CHANGES])
    more = f" and {count - SHOWN_CHANGES:,} more" if count > SHOWN_CHANGES else ""
    return f"images changed: {shown}{more}"


def _joined(changes: Iterable[str]) -> list[str]:
    """Return a change for each file: one that was added and removed is left out."""
    first: dict[str, str] = {}
    last: dict[str, str] = {}
    for change in changes:
        name, *verb = change.rsplit(" ", 2)
        last[name] = " ".join(verb)
        first.setdefault(name, last[name])
    joined: list[str] = []
    for name, begin in first.items():
        if (begin, last[name]) == (ADDED, REMOVED):
            continue
        verb = begin if begin == ADDED else REMOVED if last[name] == REMOVED else CHANGED
        joined.append(f"{name} {verb}")
    return joined


def _place(origin: Origin, split: str) -> Path:
    """Return the key of a split's changes in the memory; no file has this name."""
    options = f"{origin.reader},{origin.labeled},{origin.skip}"
    return Path(origin.location) / "?changes" / options / split
