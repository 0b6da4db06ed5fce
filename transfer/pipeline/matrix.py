"""`matrix:` in a pipeline file: all combinations of variables, with `include` and `exclude`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from transfer.errors import did_you_mean
from transfer.pipeline.document_nodes import FAULTY, Faults, Mark, Node

MAX_MEMBERS = 10_000

Member = dict[str, Any]  # variable -> value


def expand(node: Node | None, faults: Faults) -> list[Member]:
    """Return the variables of each member; a single empty one without a matrix.

    `exclude` drops the combinations that agree with one of its entries in all that the entry names.
    As in CI files, an entry of `include` is added to each combination whose variables it does not
    contradict; where there is none, it is a member by itself.

    Args:
        node: the value of `matrix`.
        faults: where its faults go.
    """
    if node is None or node.value is FAULTY:
        return [{}]
    if not isinstance(node.value, dict):
        problem = "must map variables to lists of values, as in `method: [jigsawpp, rotation]`"
        faults.add(node.mark, "matrix", problem)
        return [{}]
    variables = {
        name: _values(name, values, node.keys[name], faults) for name, values in node.value.items()
    }
    include, exclude = variables.pop("include", []), variables.pop("exclude", [])
    _check_excluded_names(node, variables, exclude, faults)
    count = math.prod(map(len, variables.values()))
    if count > MAX_MEMBERS:
        faults.add(node.mark, "matrix", f"has {count:,} members, more than {MAX_MEMBERS:,}")
        return [dict.fromkeys(variables, FAULTY)]
    combinations = [
        combination
        for combination in _combinations(variables)
        if not any(_is_excluded(combination, entry) for entry in exclude)
    ]
    members = combinations + _include(combinations, include, variables)
    if not members:
        faults.add(node.mark, "matrix", "has no members, so there is nothing to run")
        return [dict.fromkeys(variables, FAULTY)]
    return members


def _combinations(variables: dict[str, list[Any]]) -> list[Member]:
    if not variables:
        return []
    products = itertools.product(*variables.values())
    return [dict(zip(variables, values, strict=True)) for values in products]


def _include(
    combinations: list[Member], include: list[Member], variables: dict[str, list[Any]]
) -> list[Member]:
    """Add each entry of `include` to the combinations that it fits; return those that fit none."""
    alone = []
    for entry in include:
        shared = [name for name in entry if name in variables]
        hosts = [
            combination
            for combination in combinations
            if all(combination[name] == entry[name] for name in shared)
        ]
        for host in hosts:
            host.update(entry)
        if not hosts:
            alone.append(dict(entry))
    return alone


def _check_excluded_names(
    node: Node, variables: dict[str, list[Any]], exclude: list[Member], faults: Faults
) -> None:
    for index, entry in enumerate(exclude):
        for name in entry.keys() - variables.keys():
            mark = node.mark_at(("exclude", index, name))
            problem = f"no matrix variable '{name}'{did_you_mean(name, variables)}"
            faults.add(mark, "matrix.exclude", problem)


def _values(name: str, node: Node, mark: Mark, faults: Faults) -> list[Any]:
    """Return the values of a variable, or the entries of `include` or `exclude`."""
    if name in ("include", "exclude"):
        problem, faulty_value = _entries_problem(node), []
    else:
        problem, faulty_value = _values_problem(node), [FAULTY]
    if problem is None:
        return node.plain()
    if problem:
        faults.add(mark, f"matrix.{name}", problem)
    return faulty_value


def _values_problem(node: Node) -> str | None:
    """What is wrong with the values of a variable; None where nothing is, empty after a report."""
    if node.value is FAULTY:
        return ""
    if not isinstance(node.value, list) or (node.value and not _are_plain(node.value)):
        return "must be a list of plain values"
    if not node.value:
        return "is an empty list, so there is nothing to run"
    return None


def _entries_problem(node: Node) -> str | None:
    """What is wrong with `include` or `exclude`; None where nothing is, empty after a report."""
    if node.value is FAULTY:
        return ""
    if not isinstance(node.value, list):
        return "must be a list of mappings"
    for entry in node.value:
        if not isinstance(entry.value, dict) or not _are_plain(list(entry.value.values())):
            return "must be a list of mappings of variables to plain values"
    return None


def _are_plain(nodes: Sequence[Node]) -> bool:
    return not any(isinstance(node.value, (dict, list)) for node in nodes)


def _is_excluded(member: Member, entry: Member) -> bool:
    return bool(entry) and all(member.get(name) == value for name, value in entry.items())
