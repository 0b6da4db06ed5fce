"""The errors of this package, each with the exit code of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHOWN_NAMES = 10


class TransferError(Exception):
    """An error that the user can fix; shown as one message without a traceback."""

    exit_code = 1
    # What `--force` was to run again and did not; None: all that was asked for.
    remaining: Sequence[str] | None = None


class UsageError(TransferError):
    """A faulty pipeline file, option or command; no stage was started."""

    exit_code = 2


class CorruptArtifact(TransferError):
    """A file of an artifact is not what its manifest says, or cannot be read."""

    exit_code = 4

    def __init__(self, folder: object, problem: str):
        super().__init__(f"{folder}: {problem}")
        self.folder = str(folder)


class LockHeld(TransferError):
    """Another process holds the artifact, and the run does not wait (`--no-wait`)."""

    exit_code = 75


class Interrupted(TransferError):
    """A signal stopped the run, which saved its checkpoints."""

    def __init__(self, signal_number: int, message: str = "stopped"):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class InvalidOption(ValueError):
    """Raised by a stage for an invalid option; reported with the option's line in the file."""

    def __init__(self, option: str, problem: str):
        super().__init__(problem)
        self.option = option


class BadImage(ValueError):
    """An image that cannot be used; the message says why."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'X'?` for the nearest of `names`, or else the choices."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN_NAMES else ""
    return f"; choose from: {', '.join(names[:SHOWN_NAMES])}{more}" if names else ""
