"""The JSON lines that a child process of `-j` writes to stdout, and its parent reads.

`{"report": ...}` is a line that a run prints; `{"error": ...}` says why the child fails;
`{"progress": ...}` has the state of a task in JSON, or that the task has ended.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from transfer.errors import TransferError
from transfer.utils.progress_display import use_display
from transfer.utils.progress_layout import Snapshot

REPORT, ERROR, PROGRESS = "report", "error", "progress"
PROGRESS_EVERY = 0.25  # seconds between events of a task, and before its first


class EventDisplay:
    """Writes the state of tasks for the display of the parent."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}  # task -> when its next event is due
        self._shown: set[str] = set()

    def show(self, name: str, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now >= self._due.setdefault(name, now + PROGRESS_EVERY):
            self._due[name] = now + PROGRESS_EVERY
            self._shown.add(name)
            _write(PROGRESS, json.dumps([name, asdict(snapshot)]))

    def remove(self, name: str) -> None:
        self._due.pop(name, None)
        if name in self._shown:
            self._shown.remove(name)
            _write(PROGRESS, json.dumps([name, None]))


def write_report(text: str) -> None:
    """Write a line that the parent is to print."""
    _write(REPORT, text)


def read_event(line: str) -> tuple[str, str]:
    """Return the kind and the text of a line.

    A line that is no event, such as what a plug-in's own code prints, counts as a report.
    """
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if isinstance(event, dict) and len(event) == 1:
        kind, text = next(iter(event.items()))
        if kind in (REPORT, ERROR, PROGRESS) and isinstance(text, str):
            return kind, text
    return REPORT, line.rstrip("\n")


def read_progress(text: str) -> tuple[str, Snapshot | None]:
    """Return a task and its state, from the text of a progress event; None for one that ended."""
    name, facts = json.loads(text)
    return name, None if facts is None else Snapshot(**facts)


@contextmanager
def output_as_events() -> Iterator[None]:
    """Write progress and the error of a child as events, and exit with the error's code."""
    use_display(EventDisplay())
    try:
        yield
    except TransferError as error:
        _write(ERROR, str(error))
        sys.exit(error.exit_code)
    finally:
        use_display(None)


def _write(kind: str, text: str) -> None:
    print(json.dumps({kind: text}), flush=True)
