"""Arguments and options that several commands take, and how they print."""

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
    help="Where results are kept (or TRANSFER_STORE). [default: .transfer/]",
)
FILE = click.argument("file", type=click.Path(path_type=Path))
STAGES = click.argument("stages", nargs=-1)


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command that reads a pipeline file takes, as `Pipeline.load` calls it: `sets`, `smoke`, `store`."""
    for decorate in (
        click.option(
            "--set",
            "sets",
            multiple=True,
            metavar="PATH=VALUE",
            help="Replace a value of the file, as in --set stages.clusters.k=100.",
        ),
        click.option(
            "--smoke",
            is_flag=True,
            help="Every stage, small: one epoch, a few hundred images; results are kept apart.",
        ),
        STORE,
    ):
        command = decorate(command)
    return command


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
EXIT_CODE = click.option(
    "--exit-code", is_flag=True, help=f"Exit with {EXIT_PENDING} if a stage is pending."
)


def show_value(value: Any, as_json: bool, text: Callable[[Any], str] | None = None) -> str:
    """Print a value, as JSON or as `text` puts it; what was printed."""
    told = (
        json.dumps(value, indent=1, ensure_ascii=False) if as_json or text is None else text(value)
    )
    click.echo(told)
    return told
