"""The history of a store: what was run, when, with which `--set`s, what it used, how it ended.

A run appends a line when it begins and a line when it ends. A run with nothing to do has one line,
which refers to an earlier line of the same artifacts. A begun run without an end was killed, unless
a process still holds its lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from transfer.errors import CorruptArtifact
from transfer.storage.history_lines import (
    Line,
    append_line,
    blank_lines,
    history_file,
    new_run_id,
    read_lines,
)
from transfer.storage.locks import writing

UP_TO_DATE, DONE, FAILED, STOPPED = "up to date", "done", "failed", "stopped"
FINISHED = (DONE, UP_TO_DATE)

Artifacts = dict[str, tuple[str, str]]  # stage label -> `uses` and key


@dataclass(frozen=True)
class RecordedRun:
    """A run of a pipeline file.

    Args:
        file: the absolute path of the pipeline file; empty in records of earlier versions.
        place: the path of the file from the folder of the store, in case both are moved.
        pipeline: the pipeline's name.
        digest: the sha256 of the file's bytes.
        sets: the `--set`s.
        folder: the working directory, where relative paths in `sets` start.
        stages: the stages that were named; empty for all.
        selection: `--only`, `--from`, or empty.
        tag: the name given with `--tag`.
        artifacts: what was asked for, with everything that it depends on.
        time: when it began, in seconds since 1970.
        ended: when it ended; None while it runs, or where it was killed.
        outcome: how it ended.
        figures: label of a score -> its figures.
        same: the earlier run of the same artifacts that the line of this one refers to.
        run: the id.
    """

    file: str
    pipeline: str
    place: str = ""
    digest: str = ""
    sets: list[str] = field(default_factory=list)
    folder: str = ""
    stages: list[str] = field(default_factory=list)
    selection: str = ""
    tag: str = ""
    artifacts: Artifacts = field(default_factory=dict)
    time: float = field(default_factory=lambda: round(time.time(), 3))
    ended: float | None = None
    outcome: str = ""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    same: str = ""
    run: str = field(default_factory=new_run_id)

    @property
    def last_use(self) -> float:
        """When it last used its artifacts, as far as is known."""
        return self.time if self.ended is None else max(self.time, self.ended)

    @property
    def keys(self) -> set[str]:
        """The keys of its artifacts."""
        return {key for _, key in self.artifacts.values()}


@dataclass(frozen=True)
class Records:
    """The runs of a history, oldest first, and what of it cannot be read."""

    runs: list[RecordedRun]
    tags: dict[str, RecordedRun]  # name -> the run that has it
    damaged: list[int]  # numbers of lines

    @property
    def start(self) -> float:
        """When the history begins; now, where there is none."""
        return min((run.time for run in self.runs), default=time.time())


class History:
    """The history in a store. Reading needs no right to write."""

    def __init__(self, root: Path):
        self.root, self.path = root, history_file(root)
        self._former = root / ".pipelines"  # what earlier versions recorded instead

    def __repr__(self) -> str:
        return f"History({str(self.root)!r})"

    def begin(self, run: RecordedRun) -> int:
        """Append the line of a run that begins, or that had nothing to do; return its place."""
        with writing(self.root):
            return append_line(self.path, asdict(run))

    def end(self, run: RecordedRun, outcome: str, figures: Mapping[str, Any]) -> None:
        """Append the line of a run's end."""
        ended = round(time.time(), 3)
        append_line(
            self.path, {"ends": run.run, "ended": ended, "outcome": outcome, "figures": figures}
        )

    def remove_tag(self, name: str) -> None:
        """Take a name from its run."""
        with writing(self.root):
            append_line(self.path, {"untag": name})

    def drop_damaged(self) -> int:
        """Blank out the lines that cannot be read; return how many."""
        count = 0
        while damaged := self.read().damaged:
            with writing(self.root):
                blank_lines(self.path, set(damaged))
            count += len(damaged)
        return count

    def read(self) -> Records:
        """Read all of it."""
        runs: dict[str, RecordedRun] = {}
        tags: dict[str, str] = {}
        damaged: list[int] = []
        for number, body in read_lines(self.path):
            try:
                run = None if body is None else self._run(body)
            except (KeyError, TypeError, ValueError, AttributeError):
                run = body = None  # of another version
            if body is None or (run is not None and run.same and run.same not in runs):
                damaged.append(number)
            elif run is not None:
                if run.same:
                    earlier = runs[run.same]
                    run = replace(run, artifacts=earlier.artifacts, figures=earlier.figures)
                runs[run.run] = run
                if run.tag:
                    tags[run.tag] = run.run
            elif body.get("ends") in runs:
                end = {name: body[name] for name in ("ended", "outcome", "figures")}
                runs[body["ends"]] = replace(runs[body["ends"]], **end)
            elif "untag" in body:
                tags.pop(body["untag"], None)
        ordered = list(runs.values())
        return Records(ordered, {name: runs[run] for name, run in tags.items()}, damaged)

    def former_runs(self) -> list[RecordedRun]:
        """Return the records of versions without a history: each pipeline's latest artifacts.

        CorruptArtifact if one is damaged.
        """
        return [
            RecordedRun("", path.stem, artifacts=_former_artifacts(path), outcome=DONE, run="")
            for path in sorted(self._former.glob("*.json"))
        ]

    def _run(self, body: Line) -> RecordedRun | None:
        """Return the run that a line begins; None for other lines."""
        if "run" not in body:
            return None
        names = {field.name for field in fields(RecordedRun)}
        facts = {name: value for name, value in body.items() if name in names}
        artifacts = {label: (uses, key) for label, (uses, key) in body["artifacts"].items()}
        moved = (self.root / facts["place"]).resolve() if facts.get("place") else None
        if moved is not None and moved.is_file():
            facts["file"] = str(moved)
        return RecordedRun(**{**facts, "artifacts": artifacts})


def _former_artifacts(path: Path) -> Artifacts:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {str(label): (str(fact["uses"]), str(fact["key"])) for label, fact in record.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        problem = f"{path.name} is damaged; remove it to let go of what it used"
        raise CorruptArtifact(path.parent, problem) from error
