"""Assignments of `--set`: PATH=VALUE, in which VALUE means what it says.

A value is a number, true, false or null; a list in [ ], a mapping in { } or a text in quotes, as in
YAML; or else the text as it stands, with every `#`, `: ` and space.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from transfer.errors import UsageError
from transfer.pipeline.document_nodes import FAULTY, Faults, Mark, Node, number_fault
from transfer.pipeline.yaml_document import FORBIDDEN_CHARACTERS, TAG, parse

NUMBER_TAGS = {f"{TAG}{name}" for name in ("int", "float", "bool", "null")}
CLOSING = {"[": "]", "{": "}"}
QUOTES = ("'", '"')


def assignment_texts(sets: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return assignments as for `--set`, from texts, or from a mapping of paths to values.

    `{"stages.clusters.k": 100, "data": Path("photos")}` is the same as two texts. A value of the
    mapping keeps its type: the text "100" stays text.
    """
    if isinstance(sets, str):
        return [sets]
    if isinstance(sets, Mapping):
        return [f"{path}={_written(path, value)}" for path, value in sets.items()]
    return list(sets)


def read_assignment(assignment: str, faults: Faults) -> tuple[list[str], Node]:
    """Return the steps of the path of an assignment, and its value.

    Args:
        assignment: `stages.clusters.k=100`.
        faults: where values go that a pipeline file must not have.

    Raises:
        UsageError: there is no path, or a list or a mapping is not valid YAML.
    """
    words = f"--set {assignment}"
    path, equals, text = assignment.partition("=")
    steps = path.strip().split(".")
    if not equals or not all(map(str.strip, steps)):
        raise UsageError(
            f"{words}: write it as --set PATH=VALUE, as in --set stages.clusters.k=100"
        )
    mark = Mark(words)
    if not text.strip():
        return steps, Node(None, mark)
    if text.lstrip()[0] in CLOSING or _is_quoted(text):
        return steps, _read_yaml(text, words, faults)
    if FORBIDDEN_CHARACTERS.search(text):
        faults.add(mark, "", "the value holds a character that is not allowed in text")
        return steps, Node(FAULTY, mark)
    return steps, read_scalar(text, mark)


def read_scalar(text: str, mark: Mark) -> Node:
    """Return a number, true, false, null, or else `text` as it stands.

    Args:
        text: the value, without quotes around it.
        mark: its place.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import ScalarNode

    yaml, word = YAML(typ="safe", pure=True), text.strip()
    tag = yaml.resolver.resolve(ScalarNode, word, (True, False))
    if str(tag) not in NUMBER_TAGS:
        return Node(text, mark)
    value = yaml.constructor.construct_object(ScalarNode(tag, word))
    return Node(text, mark) if number_fault(value) else Node(value, mark, text=text)


def _is_quoted(text: str) -> bool:
    word = text.strip()
    return len(word) > 1 and word[0] in QUOTES and word[0] == word[-1]


def _read_yaml(text: str, words: str, faults: Faults) -> Node:
    """Read a list, a mapping or a quoted text, which must take up all of `text`."""
    from ruamel.yaml import YAML

    path, word = words.removeprefix("--set ").partition("=")[0], text.strip()
    remedy = f"for the text itself, with quotes: {path}={_quoted(word)}"
    if " #" in word and word[-1] == CLOSING.get(word[0]):
        remedy = "'#' begins a comment there: put that text in quotes"
    try:
        node = parse(word, words, faults, placed=False)
        *_, last, _ = YAML(typ="safe", pure=True).scan(word)
    except UsageError as error:
        raise UsageError(f"{error}; {remedy}") from error
    if last.end_mark.index < len(word):
        rest = word[last.end_mark.index :].strip()
        raise UsageError(f"{words}: '{rest}' would be a comment; {remedy}")
    kind = {"[": list, "{": dict}.get(word[0], str)
    if not isinstance(node.value, kind) and node.value is not FAULTY:
        raise UsageError(f"{words}: not one value; {remedy}")
    return node


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _written(path: str, value: Any) -> str:
    """Return a value of Python as it is written after `=`."""
    if isinstance(value, os.PathLike):
        value = _plain(value)
    if isinstance(value, str):
        reads_as_is = bool(value.strip()) and value.lstrip()[0] not in (*CLOSING, *QUOTES)
        if reads_as_is and read_scalar(value, Mark("")).value == value:
            return value
        return _quoted(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise UsageError(f"sets: {path}: a {kind} cannot be written as YAML ({error})") from error


def _plain(value: Any) -> Any:
    """Return what JSON can hold for a path, or for numbers of numpy."""
    if isinstance(value, os.PathLike):
        path = os.fspath(value).replace("${", "$${")
        return path if os.path.dirname(path) else os.path.join(".", path)  # no name of a card
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    raise TypeError(f"{value!r} is none of text, number, list and mapping")
