"""Replace values of a document: those that `--set` names, and variables of the matrix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transfer.errors import did_you_mean
from transfer.pipeline.assignments import read_assignment
from transfer.pipeline.document_nodes import FAULTY, Faults, Mark, Node
from transfer.utils.formatting import inline_yaml, plural, value_text

VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}")  # `$${`, which means the text `${`, or `${name}`


def apply_set(root: Node, assignment: str, faults: Faults) -> Node:
    """Return `root` with one value replaced.

    Args:
        root: the document.
        assignment: as for `--set`: `stages.clusters.k=100`.
        faults: where a path that the document does not have goes.
    """
    steps, value = read_assignment(assignment, faults)
    mark = Mark(f"--set {assignment}")
    return _Replacement(value, mark, ".".join(steps), faults).apply(root, steps)


@dataclass(frozen=True)
class _Replacement:
    """A value that replaces another one."""

    value: Node
    mark: Mark
    where: str  # the whole path
    faults: Faults

    def apply(self, node: Node, path: list[str]) -> Node:
        """Return `node` with the value at `path` replaced; a fault leaves it unchanged."""
        if not path:
            return self.value
        if node.value is FAULTY:
            return node
        if isinstance(node.value, list):
            return self._in_list(node, path)
        if isinstance(node.value, dict):
            return self._in_mapping(node, path)
        parent = self.where.removesuffix("." + ".".join(path))
        problem = f"{value_text(node.value)} has no '{path[0]}'; replace it as a whole"
        return self._fault(node, f"{problem}, --set {parent}='{{...}}'")

    def _in_list(self, node: Node, path: list[str]) -> Node:
        step, rest = path[0], path[1:]
        if not step.isdecimal() or int(step) >= len(node.value):
            entries = plural(len(node.value), "entry", "entries")
            return self._fault(node, f"no entry '{step}'; the list has {entries}, counted from 0")
        entries = list(node.value)
        entries[int(step)] = self.apply(entries[int(step)], rest)
        return Node(entries, node.mark)

    def _in_mapping(self, node: Node, path: list[str]) -> Node:
        step, rest = path[0], path[1:]
        if not rest:
            values, keys = {**node.value, step: self.value}, {**node.keys, step: self.mark}
            return Node(values, node.mark, keys)
        if step not in node.value:
            return self._fault(node, self._absent(node, path))
        return Node(
            {**node.value, step: self.apply(node.value[step], rest)}, node.mark, {**node.keys}
        )

    def _absent(self, node: Node, path: list[str]) -> str:
        """What is wrong with a path whose first step is not in the mapping `node`."""
        problem = f"the file has no '{path[0]}' there{did_you_mean(path[0], node.value)}"
        if "did you mean" in problem:
            return problem
        where = self.where.split(".")[: 1 - len(path)]
        return f"{problem}; to add it: --set {'.'.join(where)}='{{{path[1]}: ...}}'"

    def _fault(self, node: Node, problem: str) -> Node:
        self.faults.add(self.mark, self.where, problem)
        return node


def variables_in(node: Node) -> set[str]:
    """Return the names of all `${name}` in `node`."""
    if isinstance(node.value, dict):
        return set().union(*map(variables_in, node.value.values()))
    if isinstance(node.value, list):
        return set().union(*map(variables_in, node.value))
    return set(_names(node.value)) if isinstance(node.value, str) else set()


def substitute(node: Node, variables: Mapping[str, Any], faults: Faults) -> Node:
    """Return `node` with each `${name}` replaced by the value of a matrix variable.

    A string that is `${name}` and nothing else takes the type of the variable. `$${` is `${`.
    """
    if isinstance(node.value, dict):
        values = {key: substitute(value, variables, faults) for key, value in node.value.items()}
        return Node(values, node.mark, node.keys)
    if isinstance(node.value, list):
        return Node([substitute(entry, variables, faults) for entry in node.value], node.mark)
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    names = _names(node.value)
    for name in [name for name in names if name not in variables]:
        hint = did_you_mean(name, variables)
        remedy = f"; for the text itself write $${{{name}}}"
        faults.add(node.mark, "", f"no matrix variable '{name}'{hint}{remedy}")
    if any(variables.get(name, FAULTY) is FAULTY for name in names):
        return Node(FAULTY, node.mark)
    if names and f"${{{names[0]}}}" == node.value:
        value = variables[names[0]]
        return Node(value, node.mark, text=None if isinstance(value, str) else inline_yaml(value))

    def replacement(match: re.Match[str]) -> str:
        return "${" if match[1] is None else inline_yaml(variables[match[1]])

    return Node(VARIABLE.sub(replacement, node.value), node.mark)


def _names(text: str) -> list[str]:
    """Return the name in each `${name}` of a text."""
    return [match[1] for match in VARIABLE.finditer(text) if match[1] is not None]
