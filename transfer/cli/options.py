"""Arguments and options that several commands share, and how they print values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

EXIT_PENDING = 3
STORE = click.option(
    "--store",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the results (or TRANSFER_STORE). [default: .transfer/]",
)
FILE = click.argument("file", type=click.Path(path_type=Path))
STAGES = click.argument("stages", nargs=-1)
SET = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="PATH=VALUE",
    help="Replace a value of FILE: --set stages.clusters.k=100.",
)
SMOKE = click.option(
    "--smoke",
    is_flag=True,
    help="Make every stage small: one epoch, a few hundred images. Results are kept apart.",
)
AS_WRITTEN = click.option(
    "--as-written",
    is_flag=True,
    help="Read FILE without the --set of its last run, which are taken if FILE is unchanged since.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
EXIT_CODE = click.option(
    "--exit-code", is_flag=True, help=f"Exit with code {EXIT_PENDING} if a stage is pending."
)

TAG = click.option(
    "--tag", metavar="NAME", help="Name the run: `gc` keeps its results, `--again` runs it again."
)
AGAIN = click.option(
    "--again",
    metavar="NAME",
    help="Run what an earlier run ran, by its tag or its id in `transfer history`.",
)


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--set`, `--smoke` and `--store`, the options of all commands that read a pipeline file.

    Their parameters have the names of those of `Pipeline.load`.
    """
    for decorate in (STORE, SMOKE, SET):
        command = decorate(command)
    return command


def results_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `file_options` and `--as-written`, the options of commands that read a file's results.

    Their parameters have the names of those of `results_file`.
    """
    return file_options(AS_WRITTEN(command))


def print_value(value: Any, as_json: bool, to_text: Callable[[Any], str]) -> str:
    """Print a value as JSON, or as the text that `to_text` makes of it; return what was printed."""
    text = json.dumps(value, indent=1, ensure_ascii=False) if as_json else to_text(value)
    click.echo(text)
    return text
