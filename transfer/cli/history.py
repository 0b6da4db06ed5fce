"""`history`: the runs that used a store, and their tags."""

from __future__ import annotations

from pathlib import Path

import click

from transfer.cli.options import AS_JSON, STORE, print_value
from transfer.cli.text_output import echo
from transfer.utils.paths import store_folder


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@STORE
@click.option("--untag", metavar="NAME", help="Take the name from its run, and do nothing else.")
@click.option(
    "--drop-damaged",
    is_flag=True,
    help="Drop the lines of the history that cannot be read, and do nothing else.",
)
@AS_JSON
def history(
    file: Path | None, store: Path | None, untag: str | None, drop_damaged: bool, as_json: bool
) -> None:
    """Show the runs of a store, latest first; with FILE, only those of this pipeline file.

    When each began, its id or tag, its file and `--set`s, how it ended, and its scores. `run --tag
    NAME` names a run, `run --again NAME` runs it again, and `gc` keeps what a named run used.
    """
    from transfer.inspection import runs
    from transfer.storage.store import Store

    opened = Store(store_folder(store, file))
    if untag is not None:
        echo(runs.remove_tag(opened, untag))
    elif drop_damaged:
        echo(runs.drop_damaged(opened))
    else:
        value = runs.history_json(opened, file)
        print_value(value, as_json, runs.history_text)
        for line in runs.damage_lines(opened):
            echo(line, err=True)
