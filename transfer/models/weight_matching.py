"""Matches a state dict with a network: every tensor must have its name and shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from transfer.models.timm_backbone import Timm
from transfer.models.weight_conversion import torchvision_names

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network

# A tensor of batch norms that older files lack, and that nothing here reads.
COUNTER = ".num_batches_tracked"
TOKENS = re.compile(r"(^|_)(cls|dist|reg|register)_tokens?$")


def load_matching(
    network: Network, state: Mapping[str, Tensor], prefix: str = ""
) -> dict[str, Tensor]:
    """Return `state` under our names, as the whole state dict of `network`.

    ValueError lists every name that is missing, is unexpected or has another shape, each with the
    nearest name on the other side.

    Args:
        network: the network to load the tensors into.
        state: tensors under our names, or torchvision's or timm's.
        prefix: a prefix that was removed from the names of `state`, for the message.
    """
    expected = network.state_dict()
    names = _naming(network, state)
    known = set(names.values())
    missing = [name for name in names.values() if name not in state and not name.endswith(COUNTER)]
    unexpected = [name for name in state if name not in known]
    lines = [
        *_list_modules("missing", missing, unexpected or state),
        *_list_modules("unexpected", unexpected, missing or known),
    ]
    for ours, theirs in names.items():
        if theirs in state and state[theirs].shape != expected[ours].shape:
            in_file, in_network = tuple(state[theirs].shape), tuple(expected[ours].shape)
            lines.append(f"shape of {theirs}: {in_file} in the file, {in_network} in the network")
    if lines:
        advice = _advice(known, state, missing, unexpected, prefix)
        raise ValueError("\n  ".join([f"does not fit {network.spec.name}", *lines, *advice]))
    return {ours: state.get(theirs, expected[ours]) for ours, theirs in names.items()}


def _naming(network: Network, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return our name -> name in the file: ours, or torchvision's if these fit better."""
    expected = network.state_dict()
    own = {name: name for name in expected}
    theirs = torchvision_names(network.spec, expected)
    suffixes = {
        name[start:]
        for name in state
        for start in (0, *(i + 1 for i, letter in enumerate(name) if letter == "."))
    }
    # `max` takes the first of equal ones.
    candidates = (theirs, own) if isinstance(network.spec, Timm) else (own, theirs)
    return max(candidates, key=lambda names: len(suffixes & set(names.values())))


def _list_modules(problem: str, names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return a line for each module of `names`, with the nearest module of `others`."""
    choices, lines = _tensors_by_module(others), []
    for module, tensors in _tensors_by_module(names).items():
        near = get_close_matches(module, choices, n=1, cutoff=0.8) if module else []
        hint = f"; nearest: {_module_text(near[0], choices[near[0]])}" if near else ""
        lines.append(f"{problem}: {_module_text(module, tensors)}{hint}")
    return lines


def _module_text(module: str, tensors: list[str]) -> str:
    return f"{module}: {', '.join(tensors)}" if module else ", ".join(tensors)


def _tensors_by_module(names: Iterable[str]) -> dict[str, list[str]]:
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, tensor = name.rpartition(".")
        modules.setdefault(module, []).append(tensor)
    return modules


def _advice(
    known: set[str],
    state: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    prefix: str,
) -> list[str]:
    """Suggest what makes the file fit: a prefix, or tensors to ignore."""
    if prefixes := _likely_prefixes(known, state, missing):
        options = ", or ".join(f"`prefix: {prefix}{likely}`" for likely in prefixes)
        return [f"the names have a prefix: set {options}"]
    if not unexpected or missing:
        return []
    if tokens := [name for name in unexpected if TOKENS.search(name)]:
        names = " and ".join(tokens)
        return [f"a network with {names} computes with it: these are weights of another variant"]
    patterns = dict.fromkeys(_widest_pattern(name, known) for name in unexpected)
    return [f"to leave out unexpected tensors: `ignore: [{', '.join(map(repr, patterns))}]`"]


def _likely_prefixes(known: set[str], state: Mapping[str, Tensor], missing: list[str]) -> list[str]:
    """Return the prefixes under which more than half of the known names are in the file."""
    if not missing:
        return []
    suffix = f".{missing[0]}"
    candidates = {name.removesuffix(missing[0]) for name in state if name.endswith(suffix)}
    return [
        candidate
        for candidate in sorted(candidates)
        if len({candidate + name for name in known} & state.keys()) > len(known) // 2
    ]


def _widest_pattern(name: str, known: set[str]) -> str:
    """Return the shortest pattern, such as `fc.*`, that matches `name` and no known name."""
    for i, letter in enumerate(name):
        part = name[: i + 1]
        if letter == "." and not any(other.startswith(part) for other in known):
            return f"{part}*"
    return name
