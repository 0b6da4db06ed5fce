"""The last run of a pipeline file: commands that read results take its `--set`s, others name them.

Results that were made with `--set` are those that the user means next. Where the file is unchanged
since its last run, `show`, `export`, `report`, `compare` and `verify` therefore read it as that run
did. `run` and `status` read the file as it is written.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transfer.storage.history import History, RecordedRun
from transfer.utils.paths import default_store

if TYPE_CHECKING:
    from transfer.api import Pipeline


def set_words(run: RecordedRun) -> str:
    """Return the `--set`s of a run, quoted for the shell."""
    return shlex.join(word for assignment in run.sets for word in ("--set", assignment))


def name_last_sets(file: Path, sets: Sequence[str], smoke: bool, store: Path | None) -> None:
    """Print the `--set`s of a file's last run, if this command replaces fewer values."""
    last = _last_run(file, smoke, store)
    if last is None:
        return
    if {_path(assignment) for assignment in last.sets} - {_path(word) for word in sets}:
        click.echo(f"the last run of {file} had {set_words(last)}", err=True)


@dataclass(frozen=True)
class ResultsFile:
    """A pipeline file whose results a command reads.

    Args:
        file: the pipeline file.
        sets: the `--set`s with which it is read.
        smoke: whether the results are those of a smoke run.
        store: the folder of the results.
        folder: where relative paths in `sets` start; empty for the working directory.
    """

    file: Path
    sets: Sequence[str]
    smoke: bool
    store: Path
    folder: str = ""

    def load(self, stages: Sequence[str] = ()) -> Pipeline:
        """Read and check the file; with `stages`, only these and their dependencies."""
        from transfer.api import Pipeline

        moved = bool(self.folder) and self.folder != os.getcwd()
        file = self.file.absolute() if moved else self.file
        with _working_directory(self.folder if moved else ""):
            return Pipeline.load(
                file, sets=self.sets, smoke=self.smoke, store=self.store, stages=stages
            )


def results_file(
    file: Path, *, sets: Sequence[str], smoke: bool, store: Path | None, as_written: bool
) -> ResultsFile:
    """Return a pipeline file as its last run read it, and print with which `--set`s.

    Args:
        file: the pipeline file.
        sets: the `--set`s of this command; they replace those of the last run.
        smoke: read the results of smoke runs.
        store: the folder of the results, if it was named.
        as_written: read the file without the `--set`s of its last run.
    """
    root = _root(file, store)
    asked = ResultsFile(file, sets, smoke, root)
    last = None if sets or as_written else _last_run(file, smoke, root)
    if last is None or not last.sets:
        return asked
    if not _is_unchanged(file, last):
        text = f"{file} as written; it has changed since its last run, which had {set_words(last)}"
        click.echo(text, err=True)
        return asked
    click.echo(f"{file} as last run, with {set_words(last)} (without: --as-written)", err=True)
    return ResultsFile(file, last.sets, smoke, root, last.folder)


def _last_run(file: Path, smoke: bool, store: Path | None) -> RecordedRun | None:
    root = _root(file, store)
    return History(root / "smoke" if smoke else root).last_run_of(file)


def _root(file: Path, store: Path | None) -> Path:
    return store.expanduser().resolve() if store else default_store(file)


def _path(assignment: str) -> str:
    """The path that a `--set` replaces."""
    return assignment.partition("=")[0].strip()


def _is_unchanged(file: Path, run: RecordedRun) -> bool:
    from transfer.utils.files import hash_file

    try:
        return hash_file(file)[0] == run.digest
    except OSError:
        return False


@contextmanager
def _working_directory(folder: str) -> Iterator[None]:
    """Work in a folder for a while, if it is named and still exists."""
    if not os.path.isdir(folder):
        yield
        return
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
