"""What can go wrong, and the exit code that says so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class TransferError(Exception):
    """A fault told to the person who can mend it: one message, no traceback."""

    exit_code = 1
    remaining: Sequence[str] = ()  # what `--force` was to make again and was not yet made


class UsageError(TransferError):
    """A faulty pipeline file, option or command: nothing was started."""

    exit_code = 2


class CorruptArtifact(TransferError):
    """A file of an artifact is not what its manifest says, or cannot be read."""

    exit_code = 4

    def __init__(self, folder: object, what: str):
        super().__init__(f"{folder}: {what}")
        self.folder = folder


class LockHeld(TransferError):
    """Somebody else holds the artifact, and the run was told not to wait."""

    exit_code = 75


class Interrupted(TransferError):
    """A signal asked the run to stop, and it saved what it had."""

    def __init__(self, signal_number: int, what: str = "stopped"):
        super().__init__(what)
        self.exit_code = 128 + signal_number


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean X?` for the closest of `names`, else the whole choice (at most ten of it)."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    shown = ", ".join(names[:10]) + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
    return f"; there is: {shown}" if names else ""


class InvalidOption(ValueError):
    """A stage's option that cannot be, found by the stage itself; the file's line of that option is shown with it."""

    def __init__(self, option: str, what: str):
        super().__init__(what)
        self.option = option


class BadImage(ValueError):
    """A picture that cannot be used, and why."""
