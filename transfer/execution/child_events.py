"""The JSON lines that a child process of `-j` writes to stdout, and its parent reads.

`{"report": ...}` is a line that a run prints; `{"error": ...}` says why the child fails.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transfer.errors import TransferError

REPORT, ERROR = "report", "error"


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
        if kind in (REPORT, ERROR) and isinstance(text, str):
            return kind, text
    return REPORT, line.rstrip("\n")


@contextmanager
def errors_as_events() -> Iterator[None]:
    """Write the error of a child as an event, and exit with the error's code."""
    try:
        yield
    except TransferError as error:
        _write(ERROR, str(error))
        sys.exit(error.exit_code)


def _write(kind: str, text: str) -> None:
    print(json.dumps({kind: text}), flush=True)
