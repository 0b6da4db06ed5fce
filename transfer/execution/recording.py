"""Record a run in the history of its store: when it begins, and how it ends."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from transfer.artifacts import Scores
from transfer.errors import Interrupted, UsageError
from transfer.execution.run import Run
from transfer.execution.status import find_manifest
from transfer.stage.upstream import upstream_stages
from transfer.storage.history import (
    DONE,
    FAILED,
    FINISHED,
    STOPPED,
    UP_TO_DATE,
    RecordedRun,
)
from transfer.storage.history_lines import ID_LENGTH, relative_place
from transfer.storage.locks import writing

TAG = re.compile(r"\w[\w.-]*")
RUN_ID = re.compile(f"[0-9a-f]{{{ID_LENGTH}}}")


def recorded_run(run: Run) -> RecordedRun:
    """Return the record of a run that begins now."""
    plan, options = run.plan, run.options
    used = dict.fromkeys(
        source for planned in run.selected for source in upstream_stages(planned, images=True)
    )
    return RecordedRun(
        file=str(plan.file.resolve()),
        place=relative_place(run.store.root, plan.file),
        pipeline=plan.name,
        digest=plan.digest,
        sets=list(plan.sets),
        folder=os.getcwd(),
        stages=list(options.stages),
        selection="--only" if options.only else "--from" if options.from_here else "",
        tag=options.tag or "",
        artifacts={planned.label: (planned.uses, planned.key) for planned in used},
    )


def check_tag(run: Run) -> None:
    """Raise UsageError for a tag that is no name, or that a finished run of other results has."""
    tag = run.options.tag
    if tag is None:
        return
    if not TAG.fullmatch(tag) or RUN_ID.fullmatch(tag):
        problem = "must start with a letter or digit, and have letters, digits, '.', '_', '-' only"
        raise UsageError(f"--tag {tag}: {problem}")
    former = run.store.history.read().tags.get(tag)
    asked = recorded_run(run)
    if former is not None and former.outcome in FINISHED and former.keys != asked.keys:
        remedy = f"take another name, or free it: transfer history --untag {tag}"
        raise UsageError(f"--tag {tag}: run {former.run} of {former.file} has it; {remedy}")


@contextmanager
def recorded(run: Run) -> Iterator[None]:
    """Record a run that begins and that ends with the block, whatever ends it."""
    record, history = recorded_run(run), run.store.history
    outcome = FAILED
    with ExitStack() as stack:
        with writing(run.store.root):
            stack.enter_context(run.store.run_lock(record))
        history.begin(record)
        try:
            yield
            outcome = DONE
        except (Interrupted, KeyboardInterrupt, SystemExit):
            outcome = STOPPED
            raise
        finally:
            with suppress(OSError, UsageError):  # a full disk is reported by what filled it
                history.end(record, outcome, _figures(run))


def record_up_to_date(run: Run) -> tuple[int, str] | None:
    """Record a run with nothing to do; return the place of its line in the history, and its id.

    None where the store cannot be written.
    """
    record = recorded_run(run)
    record = replace(record, outcome=UP_TO_DATE, ended=record.time, figures=_figures(run))
    try:
        return run.store.history.begin(record), record.run
    except (OSError, UsageError):
        if record.tag:  # a tag that is not recorded keeps nothing
            raise
        return None


def _figures(run: Run) -> dict[str, Any]:
    """Return label -> figures of the finished scores."""
    figures: dict[str, Any] = {}
    for planned in run.selected:
        if issubclass(planned.stage.produces, Scores):
            manifest = find_manifest(run.store, planned)
            if manifest is not None:
                figures[planned.label] = manifest.figures
    return figures
