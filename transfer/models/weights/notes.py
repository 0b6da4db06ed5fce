"""What was taken from a file of weights where the user did not choose it, in sentences."""

from __future__ import annotations

from collections.abc import Iterable

from transfer.models.backbone import Backbone
from transfer.models.weights.dialects import Names, dialect_notes
from transfer.models.weights.match import Match, Part
from transfer.models.weights.mismatch import place_options
from transfer.models.weights.named_code import LeftOut
from transfer.utils.formatting import plural

SHOWN = 4


def match_notes(
    match: Match, others: list[Match], parts: int, spec: Backbone, entry: str
) -> list[str]:
    """Return which of the file's tensors were taken, where the options left it open.

    Args:
        match: what was taken.
        others: other networks in the file that fit.
        parts: the number of dicts of tensors in the file.
        spec: the description of the network.
        entry: the entry that the user named.
    """
    chosen = []
    if match.part.entry != entry:
        chosen.append(f"entry `{match.part.entry}`")
    elif parts > 1:
        chosen.append("the tensors outside of any entry" if not entry else f"entry `{entry}`")
    if match.prefix:
        chosen.append(f"names that begin with `{match.original_prefix}`")
    if match.dialect not in ("", "torchvision", "timm"):
        chosen.append(f"names of {match.dialect}")
    notes = [f"weights: {', '.join(chosen)}"] if chosen else []
    notes += _others_note([place_options(other) for other in others])
    if match.heads:
        notes.append(f"left out, as features do not need it: {_modules(match.heads)}")
    if match.elsewhere:
        rest = [name for name in match.elsewhere if not _belongs(name, others)]
        if rest:
            notes.append(f"left out, outside of this network: {_modules(rest)}")
    return notes + dialect_notes(match.dialect, spec)


def order_notes(part: Part, names: Names, others: list[str]) -> list[str]:
    """Return how tensors were matched by their order.

    Args:
        part: the part of the file.
        names: our name -> name in the part.
        others: entries of other networks in the file that fit.
    """
    pairs = [f"{part.originals[theirs]} as {ours}" for ours, theirs in names.items()]
    more = ", ..." if len(pairs) > SHOWN else ""
    place = f" of entry `{part.entry}`" if part.entry else ""
    taken = (
        f"{plural(len(pairs), 'tensor')}{place} taken in their order, with equal shapes: "
        f"{', '.join(pairs[:SHOWN])}{more}"
    )
    return [taken, *_others_note([f"`entry: {entry}`" for entry in others if entry])]


def _others_note(choices: list[str]) -> list[str]:
    if not choices:
        return []
    options = "; ".join(choices[:SHOWN])
    return [f"the file holds other networks that fit; to take another: {options}"]


def left_out_notes(left_out: LeftOut) -> list[str]:
    """Return notes on objects of a file that were not loaded, and on functions that it calls."""
    notes = []
    if left_out.calls:
        names = ", ".join(f"`{name}`" for name in left_out.calls)  # all: any may be harmful
        notes.append(f"not called: {names}; nothing of the file was run")
    if left_out.classes:
        names = ", ".join(left_out.classes[:SHOWN])
        count = len(left_out.classes) - SHOWN
        more = f" and {count} more" if count > 0 else ""
        notes.append(f"not loaded: objects of {names}{more}; only tensors are")
    return notes


def _belongs(name: str, others: list[Match]) -> bool:
    return any(other.prefix and name.startswith(other.prefix) for other in others)


def _modules(names: Iterable[str]) -> str:
    """Return names by their first word: `fc.* (2 tensors), queue`."""
    counts: dict[str, int] = {}
    for name in names:
        first, dot, _ = name.partition(".")
        counts[first + (".*" if dot else "")] = counts.get(first + (".*" if dot else ""), 0) + 1
    texts = [f"{name} ({count})" if count > 1 else name for name, count in counts.items()]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more
