"""A pipeline file as its last run read it, for commands that read results.

Results that were made with `--set` are those that the user means next. So where the file is
unchanged since its last run, it is read with the `--set`s of that run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from transfer.api import Pipeline
from transfer.cli.last_run import last_run_line_of, set_words
from transfer.cli.text_output import echo
from transfer.errors import UsageError
from transfer.utils.files import hash_file
from transfer.utils.paths import store_folder


@dataclass(frozen=True)
class ResultsFile:
    """A pipeline file whose results a command reads.

    Args:
        file: the pipeline file.
        sets: the `--set`s with which it is read.
        smoke: whether the results are those of a smoke run.
        store: the folder of the results.
        folder: where relative paths in `sets` start; empty for the working directory.
        last_stages: the stages that the last run with these `--set`s named.
    """

    file: Path
    sets: Sequence[str]
    smoke: bool
    store: Path
    folder: str = ""
    last_stages: Sequence[str] = ()

    def load(self, stages: Sequence[str] = ()) -> Pipeline:
        """Read and check the file; with `stages`, only these and their dependencies.

        Without, where the whole file cannot be planned, those that the last run named are read:
        photographs without labels have no scores.
        """
        try:
            return self._load(stages)
        except UsageError as error:
            if stages or not self.last_stages:
                raise
            pipeline = self._load(self.last_stages)
            names, problem = ", ".join(self.last_stages), str(error).splitlines()[0]
            echo(f"only {names}, as last run, because of: {problem}", err=True)
            return pipeline

    def _load(self, stages: Sequence[str]) -> Pipeline:
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
    root = store_folder(store, file)
    asked = ResultsFile(file, sets, smoke, root)
    last = last_run_line_of(file, smoke, root)
    if last is None:
        return asked
    words, unchanged = set_words(last), file.is_file() and hash_file(file)[0] == last["digest"]
    if unchanged and list(sets) == list(last["sets"]):
        return replace(asked, last_stages=last["stages"])
    if sets or as_written or not last["sets"]:
        return asked
    if not unchanged:
        echo(f"{file} as written; it changed since its last run, which had {words}", err=True)
        return asked
    echo(f"{file} as last run, with {words} (without: --as-written)", err=True)
    return ResultsFile(file, last["sets"], smoke, root, last["folder"], last["stages"])


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
