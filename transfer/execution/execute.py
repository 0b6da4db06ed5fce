"""Execute a plan: check all pending stages first, then run them one by one or in parallel."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from transfer.errors import InvalidOption, TransferError, UsageError
from transfer.execution.execute_stage import failure_message
from transfer.execution.parallel import run_parallel
from transfer.execution.recording import check_tag, record_up_to_date, recorded
from transfer.execution.run import Run
from transfer.execution.status import StageStatus, find_manifest, stage_statuses
from transfer.stage.base import PlannedStage


def execute(run: Run) -> tuple[int, str] | None:
    """Run all pending stages; the first failure is raised once no other stage can run.

    Returns the place in the history, and the id, of a run with nothing to do.
    """
    check_tag(run)
    statuses = stage_statuses(run.plan, run.store, run.forced)
    selected = set(run.selected)
    pending = [status for status in statuses if status.pending and status.planned in selected]
    if not pending:
        return record_up_to_date(run) if run.options.recorded else None
    _validate(run, pending)
    run.stop.listen()
    with recorded(run) if run.options.recorded else nullcontext():
        run.discard_checkpoints([status.planned for status in pending])
        _run_pending(run, pending)
    return None


def _run_pending(run: Run, pending: list[StageStatus]) -> None:
    if run.options.jobs > 1:
        pending_stages = {status.planned for status in pending}
        run_parallel(run, [planned for planned in run.selected if planned in pending_stages])
    else:
        run.options.runtime.configure_threads()
        _run_sequentially(run)
    _raise_failures(run)


def _run_sequentially(run: Run) -> None:
    for planned in run.selected:
        if run.failed and not run.options.keep_going:
            return
        if not run.skip_if_upstream_failed(planned):
            run.run_stage(planned)


def _raise_failures(run: Run) -> None:
    if not run.failed:
        return
    first = next(iter(run.failed.values()))
    if len(run.failed) == 1:
        raise first
    labels = {planned.key: f"{planned.label}: " for planned in run.selected}
    lines = [
        labels[key] + str(error).removeprefix(labels[key]) for key, error in run.failed.items()
    ]
    error = TransferError(f"{len(lines)} stages failed:\n" + "\n".join(lines))
    error.exit_code = first.exit_code
    raise error


def _validate(run: Run, pending: list[StageStatus]) -> None:
    """Check what needs torch before the first stage starts; UsageError lists all faults."""
    run.options.runtime.check_device()
    faults = []
    for status in pending if run.options.only or run.options.from_here else ():
        faults += _missing_dependencies(run, status.planned)
    for status in pending:
        faults += _build_faults(run, status.planned)
    if faults:
        raise UsageError("\n".join(dict.fromkeys(faults)))


def _missing_dependencies(run: Run, planned: PlannedStage[Any]) -> list[str]:
    """Report what a stage reads that is neither cached nor selected."""
    if not run.options.stages:
        return []
    missing = [
        source.label
        for source in planned.dependencies.values()
        if source not in run.selected
        and not source.is_pack
        and find_manifest(run.store, source) is None
    ]
    return [
        f"{planned.label} reads {label}, which is not made yet; run it without --only or --from"
        for label in missing
    ]


def _build_faults(run: Run, planned: PlannedStage[Any]) -> list[str]:
    """Build the networks of a stage on trial, and report what fails."""
    mark, where = planned.mark() or run.plan.file, f"stages.{planned.name}"
    try:
        planned.stage.validate_build(planned)
    except TransferError:
        raise
    except InvalidOption as error:
        mark = planned.mark(error.option) or run.plan.file
        return [f"{mark}: {where}.{error.option}: {error}"]
    except ValueError as error:
        return [f"{mark}: {where}: {error}"]
    except Exception as error:  # a plug-in's code may raise anything
        return [f"{mark}: {where}: cannot be built: {failure_message(error, planned, run.store)}"]
    return []
