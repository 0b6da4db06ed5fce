"""The command that resumes a failed or stopped run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

DROPPED = {"restart", "child"}  # the checkpoints are to be used now


def resume_command(context: click.Context, remaining: Sequence[str] | None) -> str:
    """Return the command line that does what a run has left to do.

    It has the options of the run, without `--restart`, so that checkpoints are used.

    Args:
        context: the parsed command of the run.
        remaining: what `--force` has left to run again; None: as the command asks for.
    """
    values, dropped = dict(context.params), set(DROPPED)
    if values["force"] and remaining is not None:
        if remaining:
            values["stages"] = remaining
            dropped |= {"from_here"}  # each stage is named; those before them stay as they are
        else:
            dropped |= {"force"}
    positional = [values["file"]] if values["file"] else []
    words = ["transfer", "run", *map(_positional, [*positional, *values["stages"]])]
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if isinstance(parameter, click.Option) and given and name not in dropped:
            words += _option_words(parameter, values[name])
    if "from_here" in dropped and values["from_here"]:
        words.append("--only")
    # A variable that was set for this command alone is missing when the next one is typed.
    if os.environ.get("TRANSFER_STORE") and not values["store"]:
        words += ["--store", os.environ["TRANSFER_STORE"]]
    return shlex.join(words)


def _positional(value: Any) -> str:
    text = os.fspath(value)
    return f"./{text}" if text.startswith("-") else text


def _option_words(option: click.Option, value: Any) -> list[str]:
    """The words of an option on a command line, with its long name."""
    name = max(option.opts, key=len)
    if option.is_flag:
        return [name]
    words: list[str] = []
    for entry in value if option.multiple else [value]:
        words += [f"{name}={entry}"] if str(entry).startswith("-") else [name, str(entry)]
    return words
