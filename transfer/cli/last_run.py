"""The `--set`s of a file's last run: `run` and `status` name them, and read the file as written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transfer.cli.text_output import echo
from transfer.storage.history_lines import Line, last_run_line
from transfer.utils.paths import store_folder


def name_last_sets(file: Path, sets: Sequence[str], smoke: bool, store: Path | None) -> None:
    """Print the `--set`s of a file's last run, if this command replaces fewer values."""
    last = last_run_line_of(file, smoke, store_folder(store, file))
    if last is None:
        return
    if {_path(assignment) for assignment in last["sets"]} - {_path(word) for word in sets}:
        echo(f"the last run of {file} had {set_words(last)}", err=True)


def last_run_line_of(file: Path, smoke: bool, root: Path) -> Line | None:
    """Return the line of a file's last run in the history of a store, or of its smoke runs."""
    return last_run_line(root / "smoke" if smoke else root, file)


def set_words(line: Line) -> str:
    """Return the `--set`s of a run, quoted for the shell."""
    import shlex

    return shlex.join(word for assignment in line["sets"] for word in ("--set", assignment))


def _path(assignment: str) -> str:
    """The path that a `--set` replaces."""
    return assignment.partition("=")[0].strip()
