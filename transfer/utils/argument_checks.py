"""Checks of the arguments of Python's entry: a wrong type is a plain error, before any work."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transfer.errors import UsageError, did_you_mean

MAX_SHOWN = 80  # characters of a value in a message


def path_argument(name: str, value: Any) -> Path:
    """Return a path; UsageError for anything else."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise _wrong(name, value, "a path, as text or Path")
    return Path(os.fsdecode(value))


def names_argument(name: str, value: Any, example: str) -> list[str]:
    """Return a list of texts, also of a single one; UsageError for anything else.

    Args:
        name: of the argument.
        value: its value.
        example: of a text, for the message.
    """
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, bytes) or not isinstance(texts, Sequence | set | frozenset):
        raise _wrong(name, value, f"a list of texts, such as [{example!r}]")
    for text in texts:
        if not isinstance(text, str):
            raise _wrong(name, text, f"a list of texts, such as [{example!r}]")
    return list(texts)


def list_argument(name: str, value: Any, contents: str) -> list[Any]:
    """Return a list, also of what a caller may hand over in a tuple; UsageError for anything else.

    Args:
        name: of the argument.
        value: its value.
        contents: of the list, for the message.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not value:
        raise _wrong(name, value, f"a list of {contents}")
    return list(value)


def check_flags(**flags: Any) -> None:
    """Raise UsageError for a flag that is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise _wrong(name, value, "True or False")


def check_count(name: str, value: Any) -> None:
    """Raise UsageError for anything but a whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(name, value, "a whole number from 1")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise UsageError for anything but one of the choices.

    Args:
        name: of the argument.
        value: its value.
        choices: its possible values.
    """
    choices = list(choices)
    if not isinstance(value, str):
        raise _wrong(name, value, f"one of {', '.join(map(repr, choices))}")
    if value not in choices:
        raise UsageError(f"{name}: unknown value '{value}'{did_you_mean(value, choices)}")


def check_text(name: str, value: Any, example: str) -> None:
    """Raise UsageError for anything but a text.

    Args:
        name: of the argument.
        value: its value.
        example: of a text, for the message.
    """
    if not isinstance(value, str):
        raise _wrong(name, value, f"a text, such as {example!r}")


def check_number(name: str, value: Any) -> None:
    """Raise UsageError for anything but a number from zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise _wrong(name, value, "a number from 0")


def _wrong(name: str, value: Any, expected: str) -> UsageError:
    shown = textwrap.shorten(repr(value), MAX_SHOWN, placeholder=" ...")
    return UsageError(f"{name}: must be {expected}, not {shown} ({type(value).__name__})")
