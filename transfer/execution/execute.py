"""Execute a plan: check all pending stages first, then run them one by one or in parallel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from transfer.errors import InvalidOption, TransferError, UsageError
from transfer.execution.execute_stage import failure_message
from transfer.execution.parallel import run_parallel
from transfer.execution.recording import check_tag, record_up_to_date, recorded
from transfer.execution.run import Run
from transfer.execution.status import StageStatus, find_manifest
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage
from transfer.stage.file_option import option_files
from transfer.storage.store import Store


def execute(run: Run) -> tuple[int, str] | None:
    """Run all pending stages; the first failure is raised once no other stage can run.

    Returns the place in the history, and the id, of a run with nothing to do.
    """
    check_tag(run)
    pending = [status for status in run.statuses() if status.pending]
    if not pending:
        return record_up_to_date(run) if run.options.recorded else None
    # Before libraries are imported: an import may catch the exception of a signal, and go on half
    # done.
    run.stop.listen()
    _validate(run, pending)
    run.schedule.plan(run.plan, run.store, [status.planned for status in pending])
    run.stop.raise_if_set()
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


def check_plan(run: Run, pending: list[StageStatus]) -> None:
    """Check what a dry run can: the device, inputs, labels, and the files that options name.

    Args:
        run: the run; no stage of it is started.
        pending: the stages that would run.

    Raises:
        UsageError: it lists all faults.
    """
    runtime = run.options.runtime
    if pending and runtime.device_name not in ("auto", "cpu"):  # which need no torch to be named
        runtime.check_device()
    faults = _missing_dependencies(run, pending)
    for planned in (status.planned for status in pending):
        if option_files(planned.stage):
            faults += _faults(run.plan, run.store, planned, planned.stage.validate_build)
        faults += _faults(run.plan, run.store, planned, planned.stage.validate_labels)
    _raise_faults(faults)


def _validate(run: Run, pending: list[StageStatus]) -> None:
    """Check what needs torch or labels before the first stage starts; UsageError lists faults."""
    run.options.runtime.check_device()
    faults = _missing_dependencies(run, pending)
    for planned in (status.planned for status in pending):
        for check in (planned.stage.validate_build, planned.stage.validate_labels):
            faults += _faults(run.plan, run.store, planned, check)
    _raise_faults(faults)


def _raise_faults(faults: list[str]) -> None:
    if faults:
        raise UsageError("\n".join(dict.fromkeys(faults)))


def _missing_dependencies(run: Run, pending: list[StageStatus]) -> list[str]:
    """Report what stages read that is neither cached nor selected, as `--only` allows."""
    if not run.options.stages or not (run.options.only or run.options.from_here):
        return []
    return [
        f"{status.planned.label} reads {source.label}, which is not made yet; "
        "run it without --only or --from"
        for status in pending
        for source in status.planned.dependencies.values()
        if source not in run.selected
        and not source.is_pack
        and find_manifest(run.store, source) is None
    ]


def _faults(
    plan: Plan, store: Store, planned: PlannedStage[Any], check: Callable[[PlannedStage[Any]], None]
) -> list[str]:
    """Call a check of a stage, and report what it raises with its place.

    Args:
        plan: the plan, for the name of the file.
        store: where the traceback of a plug-in goes.
        planned: the stage.
        check: `validate_build` or `validate_labels` of it.
    """
    mark = planned.mark() or plan.file
    where = "data" if planned.is_pack else f"stages.{planned.name}"
    try:
        check(planned)
    except InvalidOption as error:
        mark = planned.mark(error.option) or plan.file
        return [f"{mark}: {where}.{error.option}: {error}"]
    except (ValueError, TransferError) as error:
        return [f"{mark}: {where}: {error}"]
    except Exception as error:  # a plug-in's code may raise anything
        return [f"{mark}: {where}: cannot be checked: {failure_message(error, planned, store)}"]
    return []
