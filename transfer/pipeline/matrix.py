"""`matrix:` in a pipeline file: every combination of some variables, as in CI files, with `include` and `exclude`."""

from __future__ import annotations

import itertools
import math
from typing import Any

from transfer.errors import did_you_mean
from transfer.pipeline.yaml_document import FAULTY, Faults, Mark, Node

MAX_MEMBERS = 10_000


def expand(node: Node | None, faults: Faults) -> list[dict[str, Any]]:
    """One dict of variables a member; a single empty one without a matrix.

    `exclude` drops the combinations that agree with one of its entries in all that the entry names. As in CI files, an
    entry of `include` is added to each combination whose variables it does not contradict; where there is none, it is
    a member of its own.
    """
    if node is None or node.value is FAULTY:
        return [{}]
    if not isinstance(node.value, dict):
        faults.add(
            node.mark,
            "matrix",
            "must be variables with lists of values, as in `method: [jigsawpp, rotation]`",
        )
        return [{}]
    variables = {
        name: _values(name, values, node.keys[name], faults) for name, values in node.value.items()
    }
    include, exclude = variables.pop("include", []), variables.pop("exclude", [])
    for index, entry in enumerate(exclude):
        for name in entry.keys() - variables.keys():
            mark = node.mark_at(("exclude", index, name))
            faults.add(
                mark,
                "matrix.exclude",
                f"no matrix variable '{name}'{did_you_mean(name, variables)}",
            )
    count = math.prod(map(len, variables.values()))
    if count > MAX_MEMBERS:
        faults.add(node.mark, "matrix", f"has {count:,} members, more than {MAX_MEMBERS:,}")
        return [dict.fromkeys(variables, FAULTY)]
    products = itertools.product(*variables.values()) if variables else []
    combinations = [dict(zip(variables, values, strict=True)) for values in products]
    combinations = [
        one for one in combinations if not any(_agrees(one, entry) for entry in exclude)
    ]
    alone = []
    for entry in include:
        hosts = [
            one
            for one in combinations
            if all(one[name] == entry[name] for name in entry if name in variables)
        ]
        for host in hosts:
            host.update(entry)
        if not hosts:
            alone.append(dict(entry))
    if not combinations and not alone:
        faults.add(node.mark, "matrix", "has no members: there would be nothing to run")
        return [dict.fromkeys(variables, FAULTY)]
    return combinations + alone


def _values(name: str, node: Node, mark: Mark, faults: Faults) -> list[Any]:
    """The values of a variable, or the entries of `include` or `exclude`; if they are faulty, that is told."""
    entries = name in ("include", "exclude")
    if node.value is FAULTY:
        wrong = ""
    elif not isinstance(node.value, list):
        wrong = f"must be a list of {'mappings' if entries else 'plain values'}"
    elif not node.value and not entries:
        wrong = "is an empty list: there would be nothing to run"
    elif entries and not all(
        isinstance(one.value, dict) and all(map(_plain, one.value.values())) for one in node.value
    ):
        wrong = "must be a list of mappings of variables to plain values"
    elif not entries and not all(map(_plain, node.value)):
        wrong = "must be a list of plain values"
    else:
        return node.plain()
    if wrong:
        faults.add(mark, f"matrix.{name}", wrong)
    return [] if entries else [FAULTY]


def _plain(node: Node) -> bool:
    return not isinstance(node.value, (dict, list))


def _agrees(member: dict[str, Any], entry: dict[str, Any]) -> bool:
    return bool(entry) and all(member.get(name) == value for name, value in entry.items())
