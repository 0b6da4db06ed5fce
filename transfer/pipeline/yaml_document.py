"""A YAML 1.2 document in which every value knows its line and column, so that every fault can point at it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer.errors import UsageError
from transfer.utils.formatting import value_text

TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = {f"{TAG}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
WORDS = {
    f"{TAG}{name}" for name in ("timestamp", "value", "merge")
}  # 2001-01-01, = and << are plain words in YAML 1.2
UNSPEAKABLE = re.compile("[\0\ud800-\udfff]")  # neither a path nor UTF-8 can hold them
MAX_DEPTH = 50
MAX_NODES = 100_000
LARGEST = 2**63


class _Faulty:
    """Stands where a value is faulty and that has been told: what follows from it is not told too."""

    def __repr__(self) -> str:
        return "(faulty)"


FAULTY: Any = _Faulty()


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
        self._told: dict[str, Mark] = {}

    def add(self, mark: Mark, where: str, what: str) -> None:
        self._told.setdefault(f"{mark}: {where}: {what}" if where else f"{mark}: {what}", mark)

    def __bool__(self) -> bool:
        return bool(self._told)

    def raise_if_any(self) -> None:
        if self._told:
            count = len(self._told)
            lines = sorted(
                self._told, key=lambda line: (self._told[line].line, self._told[line].column)
            )
            raise UsageError(
                "\n".join(lines) + f"\n{count} fault{'s' if count > 1 else ''}; nothing was started"
            )


def read_document(path: Path, faults: Faults) -> Node:
    """The document in `path`. What YAML itself refuses is raised at once; doubtful values go to `faults`."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        mark = _mark_of(error.object[: error.start].decode("utf-8"), str(path))
        raise UsageError(
            f"{mark}: not a text file in UTF-8 ({error.reason} at byte {error.start})"
        ) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    return parse(text, str(path), faults)


def parse(text: str, file: str, faults: Faults, placed: bool = True) -> Node:
    """The one document in `text`; no tag but those of plain values is followed, so nothing is ever constructed.

    `placed=False`: lines and columns mean nothing to the reader, for the text is no file.
    """
    from ruamel.yaml import YAML, YAMLError

    yaml = YAML(typ="safe", pure=True)
    converter = _Converter(file, yaml.constructor, faults, placed)
    try:
        root = yaml.compose(text)
    except YAMLError as error:
        at = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        mark = (
            converter.mark(at)
            if at
            else _mark_of(text[: getattr(error, "position", 0)], file, placed)
        )
        said = (
            getattr(error, "problem", None)
            or getattr(error, "reason", None)
            or str(error).splitlines()[0]
        )
        raise UsageError(f"{mark}: not YAML: {said}") from error
    except RecursionError as error:
        raise UsageError(f"{_too_deep(text, file, placed)}: nested too deeply") from error
    except Exception as error:  # some malformed texts make the parser fail in its own code
        raise UsageError(
            f"{Mark(file, 1, 1) if placed else file}: not YAML: {type(error).__name__} {error}"
        ) from error
    if root is None:
        raise UsageError(f"{file}:1:1: the file is empty" if placed else f"{file}: holds no value")
    return converter.convert(root)


class _Converter:
    """Nodes of the parser to our own, with what a pipeline file must not hold told."""

    def __init__(self, file: str, constructor: Any, faults: Faults, placed: bool):
        self.file, self.constructor, self.faults, self.placed = file, constructor, faults, placed
        self.count = 0

    def mark(self, at: Any) -> Mark:
        return Mark(self.file, at.line + 1, at.column + 1) if self.placed else Mark(self.file)

    def convert(self, node: Any, depth: int = 0) -> Node:
        mark, tag = self.mark(node.start_mark), str(node.tag)
        self.count += 1
        if depth > MAX_DEPTH:
            raise UsageError(f"{mark}: nested too deeply (or an alias that holds itself)")
        if self.count > MAX_NODES:  # a few aliases of aliases are enough to get there
            raise UsageError(f"{mark}: more than {MAX_NODES:,} values, with aliases written out")
        if tag not in PLAIN_TAGS | WORDS:
            return self._faulty(
                mark, f"tag '{tag}' is not allowed: a pipeline file holds plain values only"
            )
        if tag == f"{TAG}map":
            return self._mapping(node, mark, depth)
        if tag == f"{TAG}seq":
            return Node([self.convert(one, depth + 1) for one in node.value], mark)
        return self._scalar(node, mark, tag)

    def _mapping(self, node: Any, mark: Mark, depth: int) -> Node:
        values, keys = {}, {}
        for key_node, value_node in node.value:
            key, key_mark = key_node.value, self.mark(key_node.start_mark)
            if not isinstance(key, str) or str(key_node.tag) not in PLAIN_TAGS | WORDS:
                self._faulty(key_mark, "a key must be a word")
            elif key == "<<":
                self._faulty(key_mark, "YAML 1.2 has no merge keys ('<<'): write the values out")
            elif key in values:
                place = f" (first on line {keys[key].line})" if self.placed else ""
                self.faults.add(key_mark, key, f"key repeated{place}")
            else:
                values[key], keys[key] = self.convert(value_node, depth + 1), key_mark
        return Node(values, mark, keys)

    def _scalar(self, node: Any, mark: Mark, tag: str) -> Node:
        try:
            value = node.value if tag in WORDS else self.constructor.construct_object(node)
        except Exception as error:  # `!!bool abc` is a KeyError, `!!int ""` an IndexError
            reason = (
                f" ({error})" if isinstance(error, ValueError) else f" as {tag.removeprefix(TAG)}"
            )
            return self._faulty(mark, f"{value_text(node.value)} cannot be read{reason}")
        if isinstance(value, float) and not math.isfinite(value):
            return self._faulty(mark, f"{value_text(node.value)} is not a finite number")
        if isinstance(value, int) and abs(value) >= LARGEST:
            return self._faulty(mark, f"{value_text(node.value)} is too large a number")
        if isinstance(value, str) and UNSPEAKABLE.search(value):
            return self._faulty(
                mark, f"{value_text(value)} holds a character that no text may hold"
            )
        return Node(value, mark)

    def _faulty(self, mark: Mark, what: str) -> Node:
        self.faults.add(mark, "", what)
        return Node(FAULTY, mark)


def _mark_of(before: str, file: str, placed: bool = True) -> Mark:
    """The place that `before` ends at."""
    return (
        Mark(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        if placed
        else Mark(file)
    )


def _too_deep(text: str, file: str, placed: bool) -> Mark:
    """Where the nesting passes what is allowed, read off the parser's events, which do not recurse."""
    from ruamel.yaml import YAML

    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        kind = type(event).__name__
        depth += kind in ("MappingStartEvent", "SequenceStartEvent")
        depth -= kind in ("MappingEndEvent", "SequenceEndEvent")
        if depth > MAX_DEPTH and placed:
            return Mark(file, event.start_mark.line + 1, event.start_mark.column + 1)
    return Mark(file)
