"""The command that resumes a failed run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

import click


def resume_command(command: click.Command, force: bool, remaining: Sequence[str]) -> str:
    """Return the command line of this process without `--restart`, so that checkpoints are used.

    Args:
        command: the command of this process.
        force: with `--force`, name only the stages that were not made again.
        remaining: these stages.
    """
    words = [word for word in sys.argv[1:] if word != "--restart"]
    if force and remaining:
        _, file, *stages = _argument_positions(command, words)
        words = [
            word
            for position, word in enumerate(words)
            if position not in stages and word != "--from"
        ]
        words[file + 1 : file + 1] = remaining
    return shlex.join(["transfer", *words])


def _argument_positions(command: click.Command, words: list[str]) -> list[int]:
    """The positions of `run`, the file and the stages: all words but options and their values."""
    with_value = {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.is_flag
        for name in parameter.opts
    }
    positions = [position for position, word in enumerate(words) if not word.startswith("-")]
    return [
        position for position in positions if position == 0 or words[position - 1] not in with_value
    ]
