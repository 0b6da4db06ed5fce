"""Matches the tensors in a file with a network: every tensor must have its name and shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from transfer.models.weights.dialects import HEADS, Names
from transfer.models.weights.match import (
    Expected,
    Match,
    Part,
    agrees,
    is_counter,
    is_ignored,
    known_order,
)

ANCHORS = 8  # names of a network that are looked for with prefixes
SUFFIXES = {"weight", "bias", "running_mean", "running_var"}


def matches(expected: Expected, part: Part, prefixes: bool) -> list[Match]:
    """Compare a part of a file with a network, under each prefix and dialect that may fit.

    Args:
        expected: the network.
        part: the part.
        prefixes: look for prefixes of the names.
    """
    compared = []
    for dialect, names in expected.dialects.items():
        likely = _prefixes(names, part.tensors) if prefixes else []
        for prefix in dict.fromkeys(["", *likely]):
            compared.append(compare(expected, part, prefix, dialect))
    return compared


def compare(
    expected: Expected,
    part: Part,
    prefix: str,
    dialect: str,
    converted: Mapping[str, Any] | None = None,
) -> Match:
    """Compare a part of a file with a network.

    Args:
        expected: the network.
        part: the part.
        prefix: what its names begin with; other names are left out.
        dialect: the names of the network to look for.
        converted: tensors under other names, which timm made of those of the part.
    """
    names = expected.dialects[dialect]
    tensors: Mapping[str, Any] = (
        {
            name.removeprefix(prefix): tensor
            for name, tensor in part.tensors.items()
            if name.startswith(prefix)
        }
        if converted is None
        else converted
    )
    known = set(names.values())
    unexpected = [name for name in tensors if name not in known]
    return Match(
        part,
        prefix,
        dialect,
        names,
        tensors,
        misshapen=[
            ours
            for ours, theirs in names.items()
            if theirs in tensors and not agrees(expected, ours, tensors[theirs])
        ],
        missing=[name for name in known_order(names) if name not in tensors],
        unexpected=[name for name in unexpected if not _is_spare(name, tensors[name])],
        heads=[name for name in unexpected if _is_spare(name, tensors[name])],
        converted=converted is not None,
        elsewhere=[name for name in part.tensors if not name.startswith(prefix)],
    )


def _is_spare(name: str, tensor: Any) -> bool:
    """Whether an unexpected tensor is of no use for features: of a head, or a number by itself."""
    return bool(HEADS.search(name)) or ("." not in name and not tuple(tensor.shape))


def best_match(compared: list[Match]) -> tuple[Match, list[Match]]:
    """Return the match to take, and others that fit as well, of other networks in the file.

    Where two have the same rank, both are returned, and the caller refuses them.
    """
    fitting = [match for match in compared if match.fits]
    ordered = sorted((_without_others(match, fitting) for match in compared), key=Match.order)
    first = ordered[0]
    others = {match.place: match for match in ordered if match.fits and match.place != first.place}
    return first, list(others.values())


def _without_others(match: Match, fitting: list[Match]) -> Match:
    """Return a match whose unexpected names are not those of other networks beside it."""
    inner = [
        other.prefix.removeprefix(match.prefix)
        for other in fitting
        if other.part is match.part
        and other.prefix.startswith(match.prefix)
        and other.prefix != match.prefix
    ]
    if not (match.complete and inner):
        return match
    other = {name for name in match.unexpected if name.startswith(tuple(inner))}
    return replace(
        match,
        unexpected=[name for name in match.unexpected if name not in other],
        elsewhere=[
            *match.elsewhere,
            *(match.prefix + name for name in match.unexpected if name in other),
        ],
    )


def without_ignored(match: Match, patterns: Iterable[str]) -> Match:
    """Return a match without names that patterns match, with the prefix or without."""
    patterns = list(patterns)

    def kept(name: str) -> bool:
        original = match.part.originals.get(match.prefix + name, name)
        return not is_ignored(name, patterns) and not is_ignored(original, patterns)

    if not patterns:
        return match
    tensors = {name: value for name, value in match.tensors.items() if kept(name)}
    return replace(
        match,
        tensors=tensors,
        missing=[name for name in known_order(match.names) if name not in tensors],
        misshapen=[ours for ours in match.misshapen if match.names[ours] in tensors],
        unexpected=[name for name in match.unexpected if kept(name)],
        heads=[name for name in match.heads if kept(name)],
        ignored=[name for name in match.tensors if name not in tensors],
    )


def _prefixes(names: Names, tensors: Mapping[str, Any]) -> list[str]:
    """Return prefixes under which one of some names of the network is in a file."""
    sought = known_order(names)
    prefixes = {}
    for anchor in {*sought[:: max(1, len(sought) // ANCHORS)], sought[-1]}:
        for name in tensors:
            if name.endswith(f".{anchor}"):
                prefixes[name.removesuffix(anchor)] = None
    return list(prefixes)


def in_order(expected: Expected, part: Part) -> tuple[Names, str]:
    """Return our name -> the name at the same place in a file, or the first difference.

    Args:
        expected: the network; counters of batches are left out on both sides.
        part: the part of the file; heads are left out.
    """
    ours = [name for name in expected.shapes if not is_counter(name)]
    theirs = [name for name in part.tensors if not is_counter(name)]
    while len(theirs) > len(ours) and HEADS.search(theirs[-1]):
        del theirs[-1]  # a classifier; what begins like it may belong to the network
    if len(theirs) != len(ours):
        theirs = [name for name in theirs if not HEADS.search(name)]
    if len(ours) != len(theirs):
        return {}, f"{len(theirs)} tensors in the file, {len(ours)} in the network"
    for number, (own, name) in enumerate(zip(ours, theirs, strict=True), 1):
        kinds = {own.rpartition(".")[2], name.rpartition(".")[2]}
        tensor = part.tensors[name]
        if not agrees(expected, own, tensor) or (len(kinds) == 2 and kinds <= SUFFIXES):
            return {}, (
                f"tensor {number} is {name} {tuple(tensor.shape)} in the file, and {own} "
                f"{expected.shapes[own]} in the network"
            )
    return dict(zip(ours, theirs, strict=True)), ""
