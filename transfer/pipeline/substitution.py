"""Replace values of a document: those that `--set` names, and variables of the matrix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transfer.errors import UsageError, did_you_mean
from transfer.pipeline.yaml_document import FAULTY, Faults, Mark, Node, parse
from transfer.utils.formatting import inline_yaml, plural, value_text

VARIABLE = re.compile(r"\$\{([^}]*)\}")


def apply_set(root: Node, assignment: str, faults: Faults) -> Node:
    """Return `root` with one value replaced.

    Args:
        root: the document.
        assignment: as for `--set`: `stages.clusters.k=100`; the value is read as YAML.
        faults: where a path that the document does not have goes.
    """
    words = f"--set {assignment}"
    path, equals, text = assignment.partition("=")
    if not equals or not all(step.strip() for step in path.split(".")):
        raise UsageError(
            f"{words}: write it as --set PATH=VALUE, as in --set stages.clusters.k=100"
        )
    mark = Mark(words)
    value = parse(text, words, faults, placed=False) if text.strip() else Node(None, mark)
    path = path.strip()
    return _Replacement(value, mark, path, faults).apply(root, path.split("."))


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
            hint = did_you_mean(step, node.value)
            return self._fault(node, f"the file has no '{step}' there{hint}")
        return Node(
            {**node.value, step: self.apply(node.value[step], rest)}, node.mark, {**node.keys}
        )

    def _fault(self, node: Node, problem: str) -> Node:
        self.faults.add(self.mark, self.where, problem)
        return node


def variables_in(node: Node) -> set[str]:
    """Return the names of all `${name}` in `node`."""
    if isinstance(node.value, dict):
        return set().union(*map(variables_in, node.value.values()))
    if isinstance(node.value, list):
        return set().union(*map(variables_in, node.value))
    return set(VARIABLE.findall(node.value)) if isinstance(node.value, str) else set()


def substitute(node: Node, variables: Mapping[str, Any], faults: Faults) -> Node:
    """Return `node` with each `${name}` replaced by the value of a matrix variable.

    A string that is `${name}` and nothing else takes the type of the variable.
    """
    if isinstance(node.value, dict):
        values = {key: substitute(value, variables, faults) for key, value in node.value.items()}
        return Node(values, node.mark, node.keys)
    if isinstance(node.value, list):
        return Node([substitute(entry, variables, faults) for entry in node.value], node.mark)
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    names = VARIABLE.findall(node.value)
    for name in [name for name in names if name not in variables]:
        faults.add(node.mark, "", f"no matrix variable '{name}'{did_you_mean(name, variables)}")
    if any(variables.get(name, FAULTY) is FAULTY for name in names):
        return Node(FAULTY, node.mark)
    if whole := VARIABLE.fullmatch(node.value):
        return Node(variables[whole[1]], node.mark)
    return Node(VARIABLE.sub(lambda match: inline_yaml(variables[match[1]]), node.value), node.mark)
