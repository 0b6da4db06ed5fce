"""Read a YAML 1.2 document in which every value keeps its line and column, for messages."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer.errors import UsageError
from transfer.utils.formatting import plural, value_text

TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = {f"{TAG}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
# Of 2001-01-01, = and <<, which YAML 1.2 reads as plain text.
TEXT_TAGS = {f"{TAG}{name}" for name in ("timestamp", "value", "merge")}
ALLOWED_TAGS = PLAIN_TAGS | TEXT_TAGS
FORBIDDEN_CHARACTERS = re.compile("[\0\ud800-\udfff]")  # neither a path nor UTF-8 can hold them
MAX_DEPTH = 50
MAX_NODES = 100_000
INTEGER_LIMIT = 2**63


class _Faulty:
    """The value of what is faulty and was reported, so that consequences are not reported too."""

    def __repr__(self) -> str:
        return "(faulty)"


FAULTY: Any = _Faulty()


@dataclass(frozen=True)
class Mark:
    """A place in a file, or the words of a `--set`."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Node:
    """A value and its place: a scalar, a list of nodes, or a dict of nodes by key."""

    value: Any
    mark: Mark
    keys: dict[str, Mark] = field(default_factory=dict)  # of a mapping: the place of each key

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def mark_at(self, path: tuple[Any, ...]) -> Mark:
        """The place of the value at `path`, or of the deepest part of the path that exists."""
        node, mark = self, self.mark
        for step in path:
            if isinstance(node.value, dict) and step in node.value:
                node, mark = node.value[step], node.keys[step]
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.mark
        return mark


class Faults:
    """Collects faults, so that all of them are reported at once."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[Mark, str]] = {}  # line -> place, path of the value

    def add(self, mark: Mark, where: str, problem: str) -> None:
        """Add a fault; the same one counts once.

        Args:
            mark: its place.
            where: the path of the value, such as `stages.clusters.k`; may be empty.
            problem: what is wrong, and the remedy.
        """
        line = f"{mark}: {where}: {problem}" if where else f"{mark}: {problem}"
        self._lines.setdefault(line, (mark, where))

    def without(self, stages: Mapping[str, tuple[Mark, Mark | None]]) -> Faults:
        """Return the faults outside of some stages.

        Args:
            stages: the name of each, where it begins, and where it ends in the file.
        """
        kept = Faults()
        kept._lines = {
            line: (mark, path)
            for line, (mark, path) in self._lines.items()
            if not any(_lies_in(name, span, path, mark) for name, span in stages.items())
        }
        return kept

    def __bool__(self) -> bool:
        return bool(self._lines)

    def raise_if_any(self) -> None:
        """Raise UsageError with all faults, in the order of the file."""
        if not self._lines:
            return
        lines = sorted(self._lines, key=lambda line: _position(self._lines[line][0]))
        raise UsageError("\n".join([*lines, f"{plural(len(lines), 'fault')}; nothing was started"]))


def key_spans(parent: Node, name: str) -> dict[str, tuple[Mark, Mark | None]]:
    """Return where each key of the mapping `name` in `parent` begins and ends in the file."""
    inner = parent.value[name].keys
    starts = sorted([*inner.values(), *parent.keys.values()], key=_position)
    later = dict(zip(starts, [*starts[1:], None], strict=True))
    return {key: (mark, later[mark]) for key, mark in inner.items()}


def _lies_in(name: str, span: tuple[Mark, Mark | None], path: str, mark: Mark) -> bool:
    """Whether a fault belongs to a stage: by its path, or else by its place."""
    if path.startswith(("stages.", "expected.")):
        return any(f"{path}.".startswith(f"{key}.{name}.") for key in ("stages", "expected"))
    start, end = span
    return (
        bool(mark.line)
        and mark.file == start.file
        and _position(start) <= _position(mark)
        and (end is None or _position(mark) < _position(end))
    )


def read_document(path: Path, faults: Faults) -> Node:
    """Read the document in a file.

    Invalid YAML raises UsageError at once; values that a pipeline file must not have go to
    `faults`.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        mark = _mark_after(error.object[: error.start].decode("utf-8"), str(path))
        problem = f"not a text file in UTF-8 ({error.reason} at byte {error.start})"
        raise UsageError(f"{mark}: {problem}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    return parse(text, str(path), faults)


def parse(text: str, file: str, faults: Faults, placed: bool = True) -> Node:
    """Read the one document in `text`.

    Only tags of plain values are followed, so no object is ever made.

    Args:
        text: YAML.
        file: its name in messages.
        faults: where values go that a pipeline file must not have.
        placed: False where the text is no file, so that lines and columns mean nothing to the user.
    """
    from ruamel.yaml import YAML, YAMLError

    yaml = YAML(typ="safe", pure=True)
    converter = _Converter(file, yaml.constructor, faults, placed)
    try:
        root = yaml.compose(text)
    except YAMLError as error:
        raise UsageError(_syntax_error(error, text, converter)) from error
    except RecursionError as error:
        mark = _deepest_mark(text, file) if placed else Mark(file)
        raise UsageError(f"{mark}: nested too deeply") from error
    except Exception as error:  # some malformed texts make the parser fail in its own code
        mark = Mark(file, 1, 1) if placed else Mark(file)
        raise UsageError(f"{mark}: not YAML: {type(error).__name__} {error}") from error
    if root is None:
        raise UsageError(f"{file}:1:1: the file is empty" if placed else f"{file}: holds no value")
    return converter.convert(root)


class _Converter:
    """Turns nodes of the parser into ours; what a pipeline file must not have is a fault."""

    def __init__(self, file: str, constructor: Any, faults: Faults, placed: bool):
        self.file, self.constructor, self.faults, self.placed = file, constructor, faults, placed
        self.count = 0

    def mark(self, parser_mark: Any) -> Mark:
        if not self.placed:
            return Mark(self.file)
        return Mark(self.file, parser_mark.line + 1, parser_mark.column + 1)

    def convert(self, node: Any, depth: int = 0) -> Node:
        mark, tag = self.mark(node.start_mark), str(node.tag)
        self.count += 1
        if depth > MAX_DEPTH:
            raise UsageError(f"{mark}: nested too deeply (or an alias that holds itself)")
        if self.count > MAX_NODES:  # a few aliases of aliases are enough to get there
            raise UsageError(f"{mark}: more than {MAX_NODES:,} values, with aliases written out")
        if tag not in ALLOWED_TAGS:
            problem = f"tag '{tag}' is not allowed; a pipeline file holds plain values only"
            return self._faulty(mark, problem)
        if tag == f"{TAG}map":
            return self._mapping(node, mark, depth)
        if tag == f"{TAG}seq":
            return Node([self.convert(entry, depth + 1) for entry in node.value], mark)
        return self._scalar(node, mark, tag)

    def _mapping(self, node: Any, mark: Mark, depth: int) -> Node:
        values, keys = {}, {}
        for key_node, value_node in node.value:
            key, key_mark = key_node.value, self.mark(key_node.start_mark)
            if not isinstance(key, str) or str(key_node.tag) not in ALLOWED_TAGS:
                self._faulty(key_mark, "a key must be a word")
            elif key == "<<":
                self._faulty(key_mark, "YAML 1.2 has no merge keys ('<<'); write the values out")
            elif key in values:
                place = f" (first on line {keys[key].line})" if self.placed else ""
                self.faults.add(key_mark, key, f"key repeated{place}")
            else:
                values[key], keys[key] = self.convert(value_node, depth + 1), key_mark
        return Node(values, mark, keys)

    def _scalar(self, node: Any, mark: Mark, tag: str) -> Node:
        try:
            value = node.value if tag in TEXT_TAGS else self.constructor.construct_object(node)
        except Exception as error:  # `!!bool abc` is a KeyError, `!!int ""` an IndexError
            kind = tag.removeprefix(TAG)
            reason = f" ({error})" if isinstance(error, ValueError) else f" as {kind}"
            return self._faulty(mark, f"{value_text(node.value)} cannot be read{reason}")
        if isinstance(value, float) and not math.isfinite(value):
            return self._faulty(mark, f"{value_text(node.value)} is not a finite number")
        if isinstance(value, int) and abs(value) >= INTEGER_LIMIT:
            return self._faulty(mark, f"{value_text(node.value)} is too large a number")
        if isinstance(value, str) and FORBIDDEN_CHARACTERS.search(value):
            problem = f"{value_text(value)} holds a character that is not allowed in text"
            return self._faulty(mark, problem)
        return Node(value, mark)

    def _faulty(self, mark: Mark, problem: str) -> Node:
        self.faults.add(mark, "", problem)
        return Node(FAULTY, mark)


def _syntax_error(error: Any, text: str, converter: _Converter) -> str:
    """Describe an error of the parser, with its place."""
    parser_mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if parser_mark:
        mark = converter.mark(parser_mark)
    elif converter.placed:
        mark = _mark_after(text[: getattr(error, "position", 0)], converter.file)
    else:
        mark = Mark(converter.file)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    return f"{mark}: not YAML: {problem or str(error).splitlines()[0]}"


def _mark_after(text: str, file: str) -> Mark:
    """The place where `text` ends."""
    return Mark(file, text.count("\n") + 1, len(text) - text.rfind("\n"))


def _deepest_mark(text: str, file: str) -> Mark:
    """The place where the nesting exceeds MAX_DEPTH, found in the parser's flat list of events."""
    from ruamel.yaml import YAML

    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        kind = type(event).__name__
        depth += kind in ("MappingStartEvent", "SequenceStartEvent")
        depth -= kind in ("MappingEndEvent", "SequenceEndEvent")
        if depth > MAX_DEPTH:
            return Mark(file, event.start_mark.line + 1, event.start_mark.column + 1)
    return Mark(file)


def _position(mark: Mark) -> tuple[int, int]:
    return mark.line, mark.column
