"""Read a YAML 1.2 document in which every value keeps its line and column, for messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from transfer.errors import UsageError
from transfer.pipeline.document_nodes import FAULTY, Faults, Mark, Node, number_fault
from transfer.utils.formatting import value_text
from transfer.utils.paths import broken_link

TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = {f"{TAG}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
# Of 2001-01-01, = and <<, which YAML 1.2 reads as plain text.
TEXT_TAGS = {f"{TAG}{name}" for name in ("timestamp", "value", "merge")}
ALLOWED_TAGS = PLAIN_TAGS | TEXT_TAGS
FORBIDDEN_CHARACTERS = re.compile("[\0\ud800-\udfff]")  # neither a path nor UTF-8 can hold them
MAX_DEPTH = 50
MAX_NODES = 100_000


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
        raise UsageError(f"{path}: cannot be read ({error.strerror}){broken_link(path)}") from error
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
        if problem := number_fault(value):
            return self._faulty(mark, f"{value_text(node.value)} {problem}")
        if isinstance(value, str) and FORBIDDEN_CHARACTERS.search(value):
            problem = f"{value_text(value)} holds a character that is not allowed in text"
            return self._faulty(mark, problem)
        is_text = isinstance(value, str) or node.style
        return Node(value, mark, text=None if is_text else node.value)

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
