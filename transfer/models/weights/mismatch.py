"""The message for a file whose tensors do not fit a network: a summary, examples, a way out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from transfer.models.weights.match import Expected, Match, common_shapes, is_counter
from transfer.models.weights.search import in_order
from transfer.utils.formatting import plural

EXAMPLES = 10
RENAME = "to rename tensors of the file: `rename: {'PATTERN': 'REPLACEMENT'}`, as by re.sub"
SIDE = 4  # names of each side where none agrees
TOKENS = re.compile(r"(^|_)(cls|dist|reg|register)_tokens?$")


def mismatch_text(expected: Expected, match: Match, name: str) -> str:
    """Return what does not fit, and what would make it fit.

    Args:
        expected: the network.
        match: the comparison that came closest.
        name: the network's name.
    """
    needed = [name for name in match.ignored if name in match.names.values()]
    mapping, difference = ({}, "") if needed else in_order(expected, match.part)
    same = "; same number of tensors, same shapes, same order" if mapping else ""
    place = f" in {place_options(match)}" if match.place else ""
    summary = f"{match.hits} of {plural(expected.count, 'name')} fit{place}{same}"
    if mapping and match.missing:
        lines = _pairs(match, mapping)
    elif match.hits:
        lines = _examples(expected, match)
    else:
        lines = _both_sides(expected, match)
    advice = _advice(match, bool(mapping))
    if needed:
        advice = [f"`ignore` leaves out {plural(len(needed), 'tensor')} that the network needs"]
    elif not (match.hits or mapping):
        advice = [*_other_network(expected, match), f"`match: order` does not fit: {difference}"]
    return "\n  ".join([f"does not fit {name}: {summary}", *lines, *advice])


def place_options(match: Match) -> str:
    """Return the options that choose a network of a file: `entry: student`, `prefix: module.`."""
    options = {"entry": match.part.entry, "prefix": match.original_prefix}
    return ", ".join(f"`{option}: {value}`" for option, value in options.items() if value)


def _pairs(match: Match, mapping: dict[str, str]) -> list[str]:
    """Return modules of file and network at the same place whose names differ."""
    pairs: dict[str, str] = {}
    for ours, theirs in mapping.items():
        name = theirs.removeprefix(match.prefix)
        if name != match.names[ours]:
            pairs.setdefault(name.rpartition(".")[0], match.names[ours].rpartition(".")[0])
    lines = [f"{theirs} in the file is at the place of {ours}" for theirs, ours in pairs.items()]
    more = len(lines) - SIDE
    return [*lines[:SIDE], *([f"and {more} more"] if more > 0 else [])]


def _other_network(expected: Expected, match: Match) -> list[str]:
    """Return that a file's shapes are of another network, or how to rename its tensors."""
    agree = common_shapes(expected, match.part.tensors.values())
    if agree == expected.count:
        return [RENAME]
    return [
        f"{agree} of {plural(expected.count, 'shape')} are in the file: these may be weights of "
        "another network, or of another width"
    ]


def _examples(expected: Expected, match: Match) -> list[str]:
    lines = [
        *_modules("missing", match.missing, match.unexpected, match, expected),
        *_modules("unexpected", match.unexpected, match.missing, match, expected),
    ]
    for ours in match.misshapen:
        theirs = match.names[ours]
        tensor, shape = match.tensors[theirs], expected.shapes[ours]
        if tuple(tensor.shape) != shape:
            in_file = tuple(tensor.shape)
            lines.append(f"shape of {theirs}: {in_file} in the file, {shape} in the network")
        else:
            kind = str(tensor.dtype).removeprefix("torch.")
            lines.append(f"values of {theirs}: {kind} in the file, floating-point in the network")
    more = len(lines) - EXAMPLES
    return [*lines[:EXAMPLES], *([f"and {more} more"] if more > 0 else [])]


def _both_sides(expected: Expected, match: Match) -> list[str]:
    theirs = [
        f"{name} {tuple(tensor.shape)}"
        for name, tensor in match.tensors.items()
        if not is_counter(name)
    ]
    ours = [
        f"{match.names[name]} {shape}"
        for name, shape in expected.shapes.items()
        if not is_counter(name)
    ]
    return [
        f"in the {side}: {', '.join(names[:SIDE])}{', ...' if len(names) > SIDE else ''}"
        f" ({plural(len(names), 'tensor')})"
        for side, names in (("file", theirs), ("network", ours))
    ]


def _modules(
    problem: str, names: Iterable[str], others: list[str], match: Match, expected: Expected
) -> list[str]:
    """Return a line for each module of `names`, with the nearest module of `others`.

    A module is near where its name is, and where all its tensors have the same shapes.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in match.tensors.items()}
    shapes |= {theirs: expected.shapes[ours] for ours, theirs in match.names.items()}
    choices, lines = _by_module(others), []
    for number, (module, tensors) in enumerate(_by_module(names).items()):
        near = get_close_matches(module, choices, n=3, cutoff=0.8) if number < EXAMPLES else []
        sought = {name: shapes[_joined(module, name)] for name in tensors}
        same = [
            other
            for other in near
            if {name: shapes[_joined(other, name)] for name in choices[other]} == sought
        ]
        hint = f"; nearest: {_module_text(same[0], choices[same[0]])}" if same else ""
        lines.append(f"{problem}: {_module_text(module, tensors)}{hint}")
    return lines


def _joined(module: str, tensor: str) -> str:
    return f"{module}.{tensor}" if module else tensor


def _module_text(module: str, tensors: list[str]) -> str:
    return f"{module}: {', '.join(tensors)}" if module else ", ".join(tensors)


def _by_module(names: Iterable[str]) -> dict[str, list[str]]:
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, tensor = name.rpartition(".")
        modules.setdefault(module, []).append(tensor)
    return modules


def _advice(match: Match, same_order: bool) -> list[str]:
    if tokens := [name for name in match.unexpected if TOKENS.search(name)]:
        names = " and ".join(tokens)
        return [f"a network with {names} computes with it: these are weights of another variant"]
    if match.complete and match.unexpected:
        known = set(match.names.values())
        patterns = dict.fromkeys(_widest_pattern(name, known) for name in match.unexpected)
        listing = ", ".join(map(repr, patterns))
        return [f"to leave out unexpected tensors: `ignore: [{listing}]`"]
    advice = []
    if same_order and match.missing:
        advice.append("to take them in this order: `match: order`")
    if match.unexpected and match.missing:
        advice.append(RENAME)
    return advice


def _widest_pattern(name: str, known: set[str]) -> str:
    """Return the shortest pattern, such as `fc.*`, that matches `name` and no known name."""
    for i, letter in enumerate(name):
        part = name[: i + 1]
        if letter == "." and not any(other.startswith(part) for other in known):
            return f"{part}*"
    return name
