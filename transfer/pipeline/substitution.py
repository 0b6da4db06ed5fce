"""What is put into a document that is read: values that `--set` replaces, and variables of the matrix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transfer.errors import UsageError, did_you_mean
from transfer.pipeline.yaml_document import FAULTY, Faults, Mark, Node, parse
from transfer.utils.formatting import inline_yaml, value_text

VARIABLE = re.compile(r"\$\{([^}]*)\}")


def apply_set(root: Node, assignment: str, faults: Faults) -> Node:
    """`root` with one value replaced, as `--set stages.clusters.k=100` asks; the value is read as YAML."""
    words = f"--set {assignment}"
    path, equals, text = assignment.partition("=")
    if not equals or not all(step.strip() for step in path.split(".")):
        raise UsageError(
            f"{words}: write it as --set PATH=VALUE, as in --set stages.clusters.k=100"
        )
    mark = Mark(words)
    value = parse(text, words, faults, placed=False) if text.strip() else Node(None, mark)
    return _replaced(root, path.strip().split("."), value, mark, faults, path.strip())


def _replaced(
    node: Node, path: list[str], value: Node, mark: Mark, faults: Faults, where: str
) -> Node:
    if not path or node.value is FAULTY:
        return value if not path else node
    step, rest = path[0], path[1:]
    if isinstance(node.value, list):
        if not step.isdecimal() or int(step) >= len(node.value):
            faults.add(
                mark, where, f"no entry '{step}': there are {len(node.value)}, counted from 0"
            )
            return node
        below = _replaced(node.value[int(step)], rest, value, mark, faults, where)
        return Node([below if i == int(step) else n for i, n in enumerate(node.value)], node.mark)
    if not isinstance(node.value, dict):
        parent = where.removesuffix("." + ".".join(path))
        faults.add(
            mark,
            where,
            f"{value_text(node.value)} has no '{step}': replace it as a whole, --set {parent}='{{...}}'",
        )
        return node
    if rest and step not in node.value:
        faults.add(mark, where, f"the file has no '{step}' there{did_you_mean(step, node.value)}")
        return node
    below = _replaced(node.value[step], rest, value, mark, faults, where) if rest else value
    return Node(
        {**node.value, step: below},
        node.mark,
        {**node.keys, step: mark if not rest else node.keys[step]},
    )


def variables_in(node: Node) -> set[str]:
    """The names of all `${name}` in `node`."""
    if isinstance(node.value, dict):
        return set().union(*map(variables_in, node.value.values()))
    if isinstance(node.value, list):
        return set().union(*map(variables_in, node.value))
    return set(VARIABLE.findall(node.value)) if isinstance(node.value, str) else set()


def substitute(node: Node, variables: Mapping[str, Any], faults: Faults) -> Node:
    """`node` with `${name}` replaced; a string that is nothing but `${name}` takes the variable's own type."""
    if isinstance(node.value, dict):
        return Node(
            {k: substitute(n, variables, faults) for k, n in node.value.items()},
            node.mark,
            node.keys,
        )
    if isinstance(node.value, list):
        return Node([substitute(n, variables, faults) for n in node.value], node.mark)
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    names = VARIABLE.findall(node.value)
    for name in [name for name in names if name not in variables]:
        faults.add(node.mark, "", f"no matrix variable '{name}'{did_you_mean(name, variables)}")
    if any(variables.get(name, FAULTY) is FAULTY for name in names):
        return Node(FAULTY, node.mark)
    whole = VARIABLE.fullmatch(node.value)
    if whole:
        return Node(variables[whole[1]], node.mark)
    return Node(VARIABLE.sub(lambda match: inline_yaml(variables[match[1]]), node.value), node.mark)
