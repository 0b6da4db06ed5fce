"""`run` and `status`: what is cached, what would run and why, and running it."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transfer.cli import answer_cache
from transfer.cli.last_run import name_last_sets
from transfer.cli.options import (
    AGAIN,
    AS_JSON,
    EXIT_CODE,
    EXIT_PENDING,
    FILE,
    STAGES,
    TAG,
    file_options,
    print_value,
)
from transfer.cli.text_output import echo
from transfer.errors import TransferError, UsageError
from transfer.utils.paths import store_folder

if TYPE_CHECKING:
    from transfer.api import Pipeline
    from transfer.execution.options import RunOptions


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@STAGES
@file_options
@click.option("--only", is_flag=True, help="Run the named stages alone; what they read must exist.")
@click.option(
    "--from",
    "from_here",
    is_flag=True,
    help="Run the named stages and all that depend on them.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Check and print the plan, and exit.")
@click.option(
    "-f", "--force", is_flag=True, help="Run cached stages again: the named ones, or all."
)
@click.option(
    "-k",
    "--keep-going",
    is_flag=True,
    help="After a failure, run the stages that do not depend on it.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    show_default=True,
    help="Run up to N stages at once.",
)
@click.option(
    "--restart",
    is_flag=True,
    help="Discard checkpoints; interrupted stages start from the beginning.",
)
@click.option(
    "--no-wait",
    is_flag=True,
    help="Exit with code 75, instead of waiting, if another run holds a stage.",
)
@click.option(
    "--device",
    default="auto",
    metavar="DEVICE",
    show_default=True,
    help="auto, cpu, cuda, cuda:1, ...",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Precision of the networks; auto: bfloat16 if the hardware multiplies it faster.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    show_default="all cores",
    help="CPU threads.",
)
@click.option("--compile", is_flag=True, help="Compile the networks with torch.compile.")
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=30.0,
    metavar="SECONDS",
    show_default=True,
    help="Seconds between checkpoints.",
)
@EXIT_CODE
@TAG
@AGAIN
@click.option("--child", is_flag=True, hidden=True)  # how `-j` runs a stage in a process of its own
def run(
    file: Path | None,
    stages: tuple[str, ...],
    sets: tuple[str, ...],
    smoke: bool,
    store: Path | None,
    child: bool,
    again: str | None,
    **flags: Any,
) -> None:
    """Run the stages of FILE that are not cached.

    With STAGES, only these and what they depend on.
    """
    if again is not None:
        from transfer.cli.again import load_again

        named = stages if file is None else (str(file), *stages)
        pipeline, named = load_again(again, named, sets, smoke, store, flags)
        options = _run_options(named, flags, child)
        _run_and_print(pipeline, options, flags["dry_run"], flags["exit_code"])
        return
    if file is None:
        raise click.UsageError("Missing argument 'FILE'.")
    if not child:
        name_last_sets(file, sets, smoke, store)
        if not flags["force"] and not flags["tag"] and _print_cached_answer(file, store):
            return
    from transfer.api import Pipeline
    from transfer.execution.child_events import output_as_events

    with output_as_events() if child else nullcontext():
        planned = () if flags["from_here"] else stages
        pipeline = Pipeline.load(file, sets=sets, smoke=smoke, store=store, stages=planned)
        options = _run_options(stages, flags, child)
        if child:
            pipeline.execute(options)
        else:
            _run_and_print(pipeline, options, flags["dry_run"], flags["exit_code"])


@click.command()
@FILE
@STAGES
@file_options
@AS_JSON
@EXIT_CODE
def status(file: Path, store: Path | None, as_json: bool, exit_code: bool, **loading: Any) -> None:
    """Show what is cached, what would run, and why.

    For all stages of FILE, or for STAGES and what they depend on.
    """
    name_last_sets(file, loading["sets"], loading["smoke"], store)
    if _print_cached_answer(file, store):
        return
    from transfer.api import Pipeline
    from transfer.inspection import views

    pipeline = Pipeline.load(file, store=store, **loading)
    statuses = pipeline.statuses()
    text = print_value(views.status_json(pipeline, statuses), as_json, views.status_text)
    if not any(status.pending for status in statuses):
        _cache_answer(pipeline, text)
    elif exit_code:
        sys.exit(EXIT_PENDING)


def _run_options(stages: tuple[str, ...], flags: dict[str, Any], child: bool) -> RunOptions:
    from transfer.execution.child_events import write_report
    from transfer.execution.options import RunOptions
    from transfer.utils.runtime import Runtime

    return RunOptions(
        stages=stages,
        only=flags["only"],
        from_here=flags["from_here"],
        force=flags["force"],
        keep_going=flags["keep_going"],
        restart=flags["restart"],
        tag=flags["tag"],
        recorded=not child,
        wait=not flags["no_wait"],
        jobs=flags["jobs"],
        runtime=Runtime(
            device_name=flags["device"],
            precision_name=flags["precision"],
            requested_threads=flags["threads"],
            compile=flags["compile"],
            save_every=flags["save_every"],
        ),
        report=write_report if child else echo,
    )


def _run_and_print(pipeline: Pipeline, options: RunOptions, dry_run: bool, exit_code: bool) -> None:
    """Print the plan, run it, and compare the scores with the expected ranges of the file."""
    from transfer.cli.resume_command import resume_command
    from transfer.execution.execute import check_plan
    from transfer.execution.expectation import verdicts
    from transfer.execution.recording import check_tag
    from transfer.execution.run import Run
    from transfer.inspection.views import plan_text

    planned_run = Run(pipeline.plan, pipeline.store, options, pipeline.flags)
    check_tag(planned_run)
    statuses = planned_run.statuses()
    pending = [status for status in statuses if status.pending]
    text = plan_text(pipeline, statuses)
    echo(text)
    if dry_run:
        check_plan(planned_run, pending)
        sys.exit(EXIT_PENDING if exit_code and pending else 0)
    try:
        record = pipeline.execute(options)
    except UsageError:
        raise
    except TransferError as error:
        command = resume_command(click.get_current_context(), error.remaining)
        error.args = (f"{error}\nTo resume: {command}",)
        raise
    lines = verdicts(pipeline.store, [status.planned for status in statuses])
    for line in lines:
        echo(line)
    if not pending and record is not None and options.tag is None:
        _cache_answer(pipeline, "\n".join([text, *lines]), record)


def _print_cached_answer(file: Path, store: Path | None) -> bool:
    """Print the cached output of this command; False where there is none or a file has changed."""
    root = store_folder(store, file)
    answer = answer_cache.cached_answer(root)
    if answer is None:
        return False
    echo(answer)
    return True


def _cache_answer(pipeline: Pipeline, text: str, record: tuple[int, str] | None = None) -> None:
    files = pipeline.files()
    if files is not None:
        run = None if record is None else (str(pipeline.store.root), *record)
        answer_cache.store_answer(pipeline.root, text, files, run)
