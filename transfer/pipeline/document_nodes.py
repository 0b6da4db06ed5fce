"""Values of a document with their places, and the faults that are reported of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transfer.errors import UsageError
from transfer.utils.formatting import plural

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
    text: str | None = None  # of a number, a truth value or null without quotes: as it is written

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

    def at(self, path: tuple[Any, ...]) -> Node | None:
        """The node at `path`, where it exists."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            if isinstance(node.value, list):
                is_entry = isinstance(step, int) and step < len(node.value)
                node = node.value[step] if is_entry else None
            else:
                node = node.value.get(step) if isinstance(node.value, dict) else None
        return node


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


def number_fault(value: Any) -> str:
    """What is wrong with a value that may be a number; empty where nothing is."""
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number"
    is_large = isinstance(value, int) and abs(value) >= INTEGER_LIMIT
    return "is too large a number" if is_large else ""


def _position(mark: Mark) -> tuple[int, int]:
    return mark.line, mark.column
