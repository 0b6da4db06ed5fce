"""A YAML 1.2 document in which every value knows its line and column, so that every fault can point at it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer.errors import UsageError, nearest

VARIABLE = re.compile(r"\$\{([^}]*)\}")
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
MAX_DEPTH = 50


@dataclass(frozen=True)
class Mark:
    """A place in a file, or a command's own words."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Node:
    """A value and where it stands. `value` is a scalar, a list of nodes, or a dict of nodes by key."""

    value: Any
    mark: Mark
    keys: dict[str, Mark] = field(default_factory=dict)  # of a mapping: where each key stands

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def mark_at(self, path: tuple[Any, ...]) -> Mark:
        """Where the value at `path` stands, or the deepest part of it that is there."""
        node, mark = self, self.mark
        for step in path:
            if isinstance(node.value, dict) and step in node.value:
                node, mark = node.value[step], node.keys[step]
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.mark
        return mark


class Faults:
    """Collects what is wrong, to tell all of it at once."""

    def __init__(self):
        self._lines: list[str] = []

    def add(self, mark: Mark, where: str, what: str) -> None:
        line = f"{mark}: {where}: {what}" if where else f"{mark}: {what}"
        if line not in self._lines:
            self._lines.append(line)

    def __bool__(self) -> bool:
        return bool(self._lines)

    def raise_if_any(self) -> None:
        if self._lines:
            count = len(self._lines)
            raise UsageError("\n".join(self._lines) + f"\n{count} fault{'s' if count > 1 else ''}; nothing was started")


def read_document(path: Path, faults: Faults) -> Node:
    """The document in `path`. What YAML itself refuses is raised at once; doubtful values go to `faults`."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    return parse(text, str(path), faults)


def parse(text: str, file: str, faults: Faults) -> Node:
    """The one document in `text`; no tag but those of plain values is followed, so nothing is ever constructed."""
    from ruamel.yaml import YAML, YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise UsageError(
            f"{place}: not YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
        ) from error
    except RecursionError as error:
        raise UsageError(f"{file}: nested too deeply") from error
    if root is None:
        raise UsageError(f"{file}:1:1: the file is empty")
    return _convert(root, file, yaml.constructor, faults, 0)


def _convert(node: Any, file: str, constructor: Any, faults: Faults, depth: int) -> Node:
    mark = Mark(file, node.start_mark.line + 1, node.start_mark.column + 1)
    if depth > MAX_DEPTH:
        raise UsageError(f"{mark}: nested too deeply (or an alias that holds itself)")
    tag = str(node.tag)
    if tag not in PLAIN_TAGS:
        faults.add(mark, "", f"tag '{tag}' is not allowed: a pipeline file holds plain values only")
        return Node(None, mark)
    if tag.endswith(":map"):
        values, keys = {}, {}
        for key_node, value_node in node.value:
            key_mark = Mark(file, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            key = str(key_node.value) if isinstance(key_node.value, str) else None
            if key is None:
                faults.add(key_mark, "", "a key must be a word")
            elif key in values:
                faults.add(key_mark, key, f"key repeated (first on line {keys[key].line})")
            else:
                values[key], keys[key] = _convert(value_node, file, constructor, faults, depth + 1), key_mark
        return Node(values, mark, keys)
    if tag.endswith(":seq"):
        return Node([_convert(one, file, constructor, faults, depth + 1) for one in node.value], mark)
    try:
        return Node(constructor.construct_object(node), mark)
    except (ValueError, OverflowError) as error:
        faults.add(mark, "", f"'{node.value}' cannot be read ({error})")
        return Node(None, mark)


def replace(root: Node, assignment: str, faults: Faults) -> Node:
    """`root` with one value replaced, as `--set stages.clusters.k=100` asks; the value is read as YAML."""
    words = f"--set {assignment}"
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"{words}: write it as --set PATH=VALUE, as in --set stages.clusters.k=100")
    mark = Mark(words)
    value = _all_at(parse(text, words, faults), mark) if text.strip() else Node(None, mark)
    return _replaced(root, path.strip().split("."), value, mark, faults, path)


def _replaced(node: Node, path: list[str], value: Node, mark: Mark, faults: Faults, where: str) -> Node:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(node.value, list) and step.isdigit() and int(step) < len(node.value):
        return Node(
            [_replaced(n, rest, value, mark, faults, where) if i == int(step) else n for i, n in enumerate(node.value)],
            node.mark,
        )
    if not isinstance(node.value, dict):
        faults.add(mark, where, f"there is nothing below '{node.value}' that '{step}' could name")
        return node
    if rest and step not in node.value:
        faults.add(mark, where, f"there is no '{step}' here{nearest(step, node.value)}")
        return node
    below = _replaced(node.value.get(step, value), rest, value, mark, faults, where)
    return Node({**node.value, step: below}, node.mark, {**node.keys, step: mark if not rest else node.keys[step]})


def _all_at(node: Node, mark: Mark) -> Node:
    if isinstance(node.value, dict):
        return Node({k: _all_at(n, mark) for k, n in node.value.items()}, mark, dict.fromkeys(node.value, mark))
    if isinstance(node.value, list):
        return Node([_all_at(n, mark) for n in node.value], mark)
    return Node(node.value, mark)


def substitute(node: Node, variables: Mapping[str, Any], faults: Faults) -> Node:
    """`node` with `${name}` replaced; a string that is nothing but `${name}` takes the variable's own type."""
    if isinstance(node.value, dict):
        return Node({k: substitute(n, variables, faults) for k, n in node.value.items()}, node.mark, node.keys)
    if isinstance(node.value, list):
        return Node([substitute(n, variables, faults) for n in node.value], node.mark)
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    unknown = [name for name in VARIABLE.findall(node.value) if name not in variables]
    if unknown:
        for name in unknown:
            faults.add(node.mark, "", f"no matrix variable '{name}'{nearest(name, variables)}")
        return Node(None, node.mark)
    whole = VARIABLE.fullmatch(node.value)
    if whole:
        return Node(variables[whole[1]], node.mark)
    return Node(VARIABLE.sub(lambda match: str(variables[match[1]]), node.value), node.mark)
