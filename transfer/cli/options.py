"""Arguments and options that several commands share, and how they print values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from transfer.cli.completion import complete_sets, complete_stages
from transfer.cli.text_output import echo, is_printable

EXIT_PENDING = 3
STORE = click.option(
    "--store",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the results (or TRANSFER_STORE). [default: .transfer/]",
)
FILE = click.argument("file", type=click.Path(path_type=Path))
STAGES = click.argument("stages", nargs=-1, shell_complete=complete_stages)
SET = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="PATH=VALUE",
    shell_complete=complete_sets,
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


class Kind(click.Choice):
    """What `transfer list` lists; the singular is accepted too."""

    def __init__(self) -> None:
        super().__init__(["stages", "pretexts", "backbones", "data", "targets", "protocols"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        plural = f"{value}s"
        return super().convert(plural if plural in self.choices else value, param, ctx)


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
    text = json_text(value) if as_json else to_text(value)
    echo(text, wrap=not as_json)
    return text


def json_text(value: Any) -> str:
    """Return indented JSON that stdout can hold: an escape for a sign that its encoding lacks."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return text if is_printable(text) else json.dumps(value, indent=1)
