"""`run` and `status`: what is there, what would run, and running it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transfer.cli import answer_cache
from transfer.cli.options import (
    AS_JSON,
    EXIT_CODE,
    EXIT_PENDING,
    FILE,
    STAGES,
    file_options,
    show_value,
)
from transfer.errors import TransferError, UsageError
from transfer.utils.paths import default_store

if TYPE_CHECKING:
    from transfer.api import Pipeline


@click.command()
@FILE
@STAGES
@file_options
@click.option(
    "--only",
    is_flag=True,
    help="Run the named stages and nothing else; what they read must be there.",
)
@click.option(
    "--from", "from_here", is_flag=True, help="Run the named stages and all that stands on them."
)
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option(
    "-f", "--force", is_flag=True, help="Run what is cached too: the named stages, or all."
)
@click.option(
    "-k",
    "--keep-going",
    is_flag=True,
    help="After a failure, go on with what does not stand on it.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Stages that run at the same time.",
)
@click.option("--restart", is_flag=True, help="Forget checkpoints: start interrupted stages anew.")
@click.option(
    "--no-wait",
    is_flag=True,
    help="Exit with 75 where another run holds a stage, instead of waiting.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all cores]")
@click.option("--compile", is_flag=True, help="torch.compile the networks.")
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds between checkpoints.",
)
@EXIT_CODE
def run(
    file: Path,
    stages: tuple[str, ...],
    sets: tuple[str, ...],
    smoke: bool,
    store: Path | None,
    **flags: Any,
) -> None:
    """Run what FILE asks for and is not there yet; with STAGES, only what they need."""
    if not flags["force"] and _said_before(file, store):
        return
    from transfer.api import Pipeline
    from transfer.execution.expectation import verdicts
    from transfer.execution.options import RunOptions
    from transfer.inspection.views import plan_text
    from transfer.utils.runtime import Runtime

    needed = () if flags["from_here"] else stages
    pipeline = Pipeline.load(file, sets=sets, smoke=smoke, store=store, stages=needed)
    runtime = Runtime(
        device_name=flags["device"],
        precision_name=flags["precision"],
        requested_threads=flags["threads"],
        compile=flags["compile"],
        save_every=flags["save_every"],
    )
    names = ("only", "from_here", "force", "keep_going", "restart")
    options = RunOptions(
        stages,
        wait=not flags["no_wait"],
        jobs=flags["jobs"],
        runtime=runtime,
        report=_say,
        **{name: flags[name] for name in names},
    )
    chosen = set(options.selected_stages(pipeline.plan))
    states = [
        state
        for state in pipeline.statuses(options.forced_stages(pipeline.plan))
        if state.planned in chosen
    ]
    told = plan_text(pipeline, states)
    _say(told)
    if flags["dry_run"]:
        sys.exit(
            EXIT_PENDING if flags["exit_code"] and any(state.pending for state in states) else 0
        )
    try:
        pipeline.execute(options)
        lines = verdicts(pipeline.store, [one for one in pipeline.plan if one in chosen])
        for line in lines:
            _say(line)
        if not any(state.pending for state in states):
            _keep(pipeline, "\n".join([told, *lines]))
    except UsageError:
        raise
    except TransferError as error:
        error.args = (f"{error}\nTo go on: {_command_to_go_on(flags['force'], error.remaining)}",)
        raise


@click.command()
@FILE
@STAGES
@file_options
@AS_JSON
@EXIT_CODE
def status(file: Path, store: Path | None, as_json: bool, exit_code: bool, **reading: Any) -> None:
    """What of FILE, or of what STAGES need, is cached, what would run, and why."""
    if _said_before(file, store):
        return
    from transfer.api import Pipeline
    from transfer.inspection import views

    pipeline = Pipeline.load(file, store=store, **reading)
    states = pipeline.statuses()
    told = show_value(views.status_json(pipeline, states), as_json, views.status_text)
    if not any(state.pending for state in states):
        _keep(pipeline, told)
    elif exit_code:
        sys.exit(EXIT_PENDING)


def _said_before(file: Path, store: Path | None) -> bool:
    """Say again what this command said when there was nothing to do, if nothing has changed since."""
    told = answer_cache.cached_answer(_root(file, store))
    if told is not None:
        click.echo(told)
    return told is not None


def _keep(pipeline: Pipeline, told: str) -> None:
    files = pipeline.files()
    if files is not None:
        answer_cache.store_answer(pipeline.root, told, files)


def _root(file: Path, store: Path | None) -> Path:
    return store.expanduser().resolve() if store else default_store(file)


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _command_to_go_on(force: bool, left: Sequence[str]) -> str:
    """The same command, with the checkpoints that there are; of what it forces, what is still to be made again."""
    words = [word for word in sys.argv[1:] if word != "--restart"]
    if force and left:
        named = _positions(words)
        words = [
            word for place, word in enumerate(words) if place not in named[2:] and word != "--from"
        ]
        words[named[1] + 1 : named[1] + 1] = left
    return shlex.join(["transfer", *words])


def _positions(words: list[str]) -> list[int]:
    """Where `run`, the file and the stages stand among the words: what is no option, and no option's value."""
    takes = {
        name
        for one in run.params
        if isinstance(one, click.Option) and not one.is_flag
        for name in one.opts
    }
    places = [place for place, word in enumerate(words) if not word.startswith("-")]
    return [place for place in places if place == 0 or words[place - 1] not in takes]
