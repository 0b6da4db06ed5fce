"""`matrix:` in a pipeline file: every combination of some variables, as in CI files, with `include` and `exclude`."""

from __future__ import annotations

import itertools
from typing import Any

from transfer.document import Faults, Node

MAX_MEMBERS = 10_000


def expand(node: Node | None, faults: Faults) -> list[dict[str, Any]]:
    """One dict of variables a member; a single empty one without a matrix.

    `exclude` drops the combinations that agree with one of its entries in all that the entry names. An entry of
    `include` is added to each combination whose variables it does not contradict, if it shares one with it;
    otherwise it is a member of its own.
    """
    if node is None:
        return [{}]
    if not isinstance(node.value, dict):
        faults.add(
            node.mark,
            "matrix",
            "must be variables with lists of values, as in `method: [jigsawpp, rotation]`",
        )
        return [{}]
    lists = {}
    for name, values in node.value.items():
        if not isinstance(values.value, list):
            faults.add(values.mark, f"matrix.{name}", "must be a list")
        elif name not in ("include", "exclude") and not values.value:
            faults.add(values.mark, f"matrix.{name}", "is an empty list: there would be nothing to run")
        elif any(isinstance(one.value, (dict, list)) != (name in ("include", "exclude")) for one in values.value):
            what = "mappings" if name in ("include", "exclude") else "plain values"
            faults.add(values.mark, f"matrix.{name}", f"must be a list of {what}")
        else:
            lists[name] = values.plain()
    include, exclude = lists.pop("include", []), lists.pop("exclude", [])
    for name, entries in (("include", include), ("exclude", exclude)):
        for entry in entries:
            for variable in entry:
                if name == "exclude" and variable not in lists:
                    faults.add(node.mark_at((name,)), f"matrix.{name}", f"'{variable}' is no variable of the matrix")
    count = 1
    for values in lists.values():
        count *= len(values)
    if count > MAX_MEMBERS:
        faults.add(node.mark, "matrix", f"has {count} members, more than {MAX_MEMBERS}")
        return [{}]
    members = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())] if lists else []
    members = [member for member in members if not any(_agrees(member, entry) for entry in exclude)]
    for entry in include:
        shared = [name for name in entry if name in lists]
        hosts = [member for member in members if shared and all(member[name] == entry[name] for name in shared)]
        for member in hosts:
            member.update(entry)
        if not hosts:
            members.append(dict(entry))
    if not members:
        faults.add(node.mark, "matrix", "has no members left")
        return [{}]
    return members


def label(member: dict[str, Any]) -> str:
    """`method=rotation,k=200`: what a member is called; empty where there is no matrix."""
    return ",".join(f"{name}={value}" for name, value in member.items())


def _agrees(member: dict[str, Any], entry: dict[str, Any]) -> bool:
    return bool(entry) and all(member.get(name) == value for name, value in entry.items())
