"""Errors of files that cannot be read, as one message with the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transfer.errors import BadImage, UsageError
from transfer.utils.paths import broken_link


def error_text(error: BaseException) -> str:
    """Return an error's message in one line, or the name of its type where it has no message."""
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())
    # str(KeyError) quotes its message.
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(message).split()) or type(error).__name__


@contextmanager
def report_errors(
    subject: object,
    problem: str = "cannot be read",
    kinds: type[Exception] | tuple[type[Exception], ...] = OSError,
) -> Iterator[None]:
    """Turn errors of reading into UsageError `SUBJECT: PROBLEM (REASON)`.

    Args:
        subject: the file or folder that is read.
        problem: what the errors mean.
        kinds: the errors to report; others pass through.
    """
    try:
        yield
    except kinds as error:
        link = broken_link(subject) if isinstance(subject, Path) else ""
        raise UsageError(f"{subject}: {problem} ({error_text(error)}){link}") from error


def read_range(path: Path, start: int, length: int) -> bytes:
    """Return `length` bytes of a file from offset `start`; BadImage where the file ends earlier."""
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        data = file.read(length)
    if len(data) < length:
        raise BadImage(f"{path} has become shorter")
    return data
