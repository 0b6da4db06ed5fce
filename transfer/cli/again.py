"""`run --again NAME`: what an earlier run asked for, and how the file differs from it now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.cli.text_output import echo
from transfer.errors import SHOWN_NAMES, CorruptArtifact, UsageError
from transfer.storage.history import RecordedRun
from transfer.storage.store import Store
from transfer.utils.formatting import plural
from transfer.utils.paths import store_folder

if TYPE_CHECKING:
    from transfer.api import Pipeline
    from transfer.stage.base import PlannedStage

SHOWN = 5  # stages that differ


@dataclass(frozen=True)
class FormerRun:
    """A run of the history, and whether it was a smoke run."""

    run: RecordedRun
    smoke: bool

    @property
    def file(self) -> Path:
        """The pipeline file."""
        return Path(self.run.file)

    def enter_folder(self) -> str:
        """Change to the working directory of that run, where relative paths of `--set` start.

        Returns a note for the user where that is impossible.
        """
        try:
            os.chdir(self.run.folder)
        except OSError as error:
            problem = f"was in {self.run.folder}, which cannot be entered ({error.strerror})"
            return f"run {self.run.run} {problem}; relative paths of its --set start here"
        return ""


def load_again(
    name: str,
    stages: tuple[str, ...],
    sets: tuple[str, ...],
    smoke: bool,
    store: Path | None,
    flags: dict[str, Any],
) -> tuple[Pipeline, tuple[str, ...]]:
    """Read the file of an earlier run as that run did; return it with the stages to run.

    Prints what differs from what that run asked for, and adds its `--only` or `--from` to `flags`.

    Args:
        name: the tag or the id of the run.
        stages: the stages that the command names; empty for those of that run.
        sets: must be empty, since those of that run are taken.
        smoke: look among smoke runs only.
        store: the folder of the results, if it was named.
        flags: the other options of the command.
    """
    from transfer.api import Pipeline

    if sets:
        raise UsageError("--again: takes the --set of that run; drop --set, or name the file")
    root = store_folder(store)
    former = former_run(root, name, smoke)
    if (note := former.enter_folder()) and former.run.sets:
        echo(note)
    narrowed = bool(stages)
    if not stages:
        stages = tuple(former.run.stages)
        flags["only"] = flags["only"] or former.run.selection == "--only"
        flags["from_here"] = flags["from_here"] or former.run.selection == "--from"
    pipeline = Pipeline.load(
        former.file,
        sets=former.run.sets,
        smoke=former.smoke,
        store=root,
        stages=() if flags["from_here"] else stages,
    )
    for line in change_lines(former, pipeline, narrowed):
        echo(line)
    return pipeline, stages


def former_run(root: Path, name: str, smoke: bool) -> FormerRun:
    """Return the run with a tag or an id; UsageError if there is none, or its file is missing.

    Args:
        root: the folder of the store.
        name: the tag or the id.
        smoke: look among smoke runs only.
    """
    names: list[str] = []
    for is_smoke in (True,) if smoke else (False, True):
        store = Store(root).smoke if is_smoke else Store(root)
        records = store.history.read()
        known = {run.run: run for run in records.runs} | records.tags
        matches = {known[id].run for id in known if id.startswith(name)} if len(name) > 3 else set()
        if name in known or len(matches) == 1:
            former = FormerRun(known[name if name in known else matches.pop()], is_smoke)
            if not former.file.is_file():
                raise UsageError(f"--again {name}: its pipeline file {former.file} is missing")
            return former
        names += [*records.tags, *(run.run for run in reversed(records.runs))]
    hint = "; nothing was run yet"
    if names:  # the latest first
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; choose from: {_shown(names)}"
    raise UsageError(f"--again {name}: no run has this tag or id in {root}{hint}")


def _shown(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def change_lines(former: FormerRun, pipeline: Pipeline, narrowed: bool) -> list[str]:
    """Return how what the file asks for differs from what the former run asked for.

    Args:
        former: the former run.
        pipeline: the file as it is now, with the `--set`s of that run.
        narrowed: the command names some stages, so others may be missing.
    """
    run, store = former.run, pipeline.store
    planned = {stage.label: stage for stage in pipeline.plan}
    changes = list(_changes(run, planned, store))
    gone = run.artifacts.keys() - planned.keys() if not narrowed else set()
    changes += [f"  {label}: no longer in the file" for label in sorted(gone)]
    if not changes:
        return []
    edited = "has changed" if pipeline.plan.digest != run.digest else "asks for other results"
    lines = [f"{former.file.name} {edited} since run {run.run}:", *changes[:SHOWN]]
    more = len(changes) - SHOWN
    return [*lines, f"  and {plural(more, 'more stage')}"] if more > 0 else lines


def _changes(run: RecordedRun, planned: dict[str, PlannedStage], store: Store) -> Iterator[str]:
    from transfer.execution.rerun_reasons import differences

    for label, stage in planned.items():
        if label not in run.artifacts and not (run.stages or run.selection):
            yield f"  {label}: new"
        elif label in run.artifacts and (former := run.artifacts[label]) != (stage.uses, stage.key):
            try:
                manifest = store.find(*former)
            except CorruptArtifact:
                manifest = None
            keys = f"key {former[1]} → {stage.key}"
            how = differences(manifest, stage) if manifest is not None else ""
            yield f"  {label}: {how} ({keys})" if how else f"  {label}: {keys}"
