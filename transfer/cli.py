"""The commands: parse, call one function, print."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transfer import __version__, answers
from transfer.errors import TransferError, UsageError
from transfer.places import default_store

if TYPE_CHECKING:
    from transfer.api import Pipeline

EXIT_PENDING = 3
FILE = click.argument("file", type=click.Path(path_type=Path))


def _file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command that reads a pipeline file takes."""
    for decorate in (
        click.option(
            "--set",
            "sets",
            multiple=True,
            metavar="PATH=VALUE",
            help="Replace a value of the file, as in --set stages.clusters.k=100.",
        ),
        click.option(
            "--smoke",
            is_flag=True,
            help="Every stage, small: one epoch, a few hundred images; results are kept apart.",
        ),
        click.option(
            "--store",
            type=click.Path(path_type=Path),
            help="Where results are kept (or TRANSFER_STORE). [default: .transfer/]",
        ),
    ):
        command = decorate(command)
    return command


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
EXIT_CODE = click.option("--exit-code", is_flag=True, help=f"Exit with {EXIT_PENDING} if a stage is pending.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """Teach a small network what a deep one learned without labels: pretext, features, clusters, labels, target."""


@cli.command()
@FILE
@click.argument("stages", nargs=-1)
@_file_options
@click.option("--only", is_flag=True, help="Run the named stages and nothing else; what they read must be there.")
@click.option("--from", "onwards", is_flag=True, help="Run the named stages and all that stands on them.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("-f", "--force", is_flag=True, help="Run what is cached too: the named stages, or all.")
@click.option("-k", "--keep-going", is_flag=True, help="After a failure, go on with what does not stand on it.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Stages that run at the same time.",
)
@click.option("--restart", is_flag=True, help="Forget checkpoints: start interrupted stages anew.")
@click.option("--no-wait", is_flag=True, help="Exit with 75 where another run holds a stage, instead of waiting.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all cores]")
@click.option("--compile", is_flag=True, help="torch.compile the networks.")
@click.option(
    "--save-every", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds between checkpoints."
)
@EXIT_CODE
def run(
    file: Path, stages: tuple[str, ...], sets: tuple[str, ...], smoke: bool, store: Path | None, **flags: Any
) -> None:
    """Run what FILE asks for and is not there yet; with STAGES, only what they need."""
    if not flags["force"] and _said_before(file, store):
        return
    from transfer.api import Pipeline
    from transfer.machine import Machine
    from transfer.runner import Options
    from transfer.show import plan_text

    needed = () if flags["onwards"] else stages
    pipeline = Pipeline.load(file, sets=sets, smoke=smoke, store=store, stages=needed)
    machine = Machine(*(flags[name] for name in ("device", "precision", "threads", "compile", "save_every")))
    names = ("only", "onwards", "force", "keep_going", "restart")
    options = Options(
        stages,
        wait=not flags["no_wait"],
        jobs=flags["jobs"],
        machine=machine,
        say=_say,
        **{name: flags[name] for name in names},
    )
    chosen = set(options.chosen(pipeline.plan))
    states = [state for state in pipeline.states(options.forced(pipeline.plan)) if state.planned in chosen]
    told = plan_text(pipeline, states)
    _say(told)
    if flags["dry_run"]:
        sys.exit(EXIT_PENDING if flags["exit_code"] and any(state.pending for state in states) else 0)
    try:
        pipeline.carry_out(options)
        if not any(state.pending for state in states):
            _keep(pipeline, told)
    except UsageError:
        raise
    except TransferError as error:
        error.args = (f"{error}\nTo go on: {_command_to_go_on(stages, flags['force'], error.stage)}",)
        raise


@cli.command()
@FILE
@_file_options
@AS_JSON
@EXIT_CODE
def status(file: Path, sets: tuple[str, ...], smoke: bool, store: Path | None, as_json: bool, exit_code: bool) -> None:
    """What of FILE is cached, what would run, and why."""
    if _said_before(file, store):
        return
    from transfer import show
    from transfer.api import Pipeline

    pipeline = Pipeline.load(file, sets=sets, smoke=smoke, store=store)
    states = pipeline.states()
    told = _print(show.status(pipeline, states), as_json, show.status_text)
    if not any(state.pending for state in states):
        _keep(pipeline, told)
    elif exit_code:
        sys.exit(EXIT_PENDING)


@cli.command("list")
@click.argument("what", type=click.Choice(["stages", "pretexts", "backbones", "data"]), default="stages")
@click.argument("name", required=False)
@AS_JSON
@click.option("--schema", is_flag=True, help="Print the JSON Schema of pipeline files, for editors.")
def list_(what: str, name: str | None, as_json: bool, schema: bool) -> None:
    """What a pipeline file can use: stages, pretexts, backbones or data; with NAME, all of its options."""
    from transfer import describe

    if schema:
        _print(describe.schema(), True)
    elif name is None:
        _print(describe.listing(what), as_json, describe.listing_text)
    else:
        _print(describe.one(what, name), as_json, describe.one_text)


@cli.command()
@FILE
@click.argument("stage", required=False)
@_file_options
@AS_JSON
@click.option(
    "--batch",
    type=click.Path(path_type=Path),
    metavar="PNG",
    help="Write a picture of what the stage's network sees.",
)
def show(
    file: Path,
    stage: str | None,
    sets: tuple[str, ...],
    smoke: bool,
    store: Path | None,
    as_json: bool,
    batch: Path | None,
) -> None:
    """The results of FILE, or all that is known of one STAGE: options, figures, files, where and how it was made."""
    from transfer import show as views
    from transfer.api import Pipeline

    pipeline = Pipeline.load(file, sets=sets, smoke=smoke, store=store)
    if batch is not None:
        from transfer.picture import batch_picture

        if stage is None:
            raise UsageError("--batch needs a stage: transfer show FILE STAGE --batch picture.png")
        click.echo(f"{batch_picture(pipeline, stage, batch)} written")
        return
    found = views.results(pipeline) if stage is None else views.stage(pipeline, stage)
    _print(found, as_json, views.results_text if stage is None else views.stage_text)


@cli.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@_file_options
@click.option("--stage", "stages", multiple=True, metavar="NAME", help="Only scores of this evaluating stage.")
@click.option("--protocol", "protocols", multiple=True, metavar="NAME", help="Only scores of this protocol.")
@click.option("--paired", is_flag=True, help="Of one seed: intervals of differences over the test images.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, every digit.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--latex", "form", flag_value="latex", help="Print LaTeX.")
@click.option("--plot", is_flag=True, help="Draw the figures over the time of training, beneath the table.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the table to a file.")
def compare(
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    smoke: bool,
    store: Path | None,
    stages: tuple[str, ...],
    protocols: tuple[str, ...],
    paired: bool,
    form: str | None,
    plot: bool,
    output: Path | None,
) -> None:
    """One table of all finished scores: each pretext and target, over seeds, beside random weights and labels."""
    from transfer import tabular
    from transfer.api import Pipeline
    from transfer.compare import compare as compared
    from transfer.places import check_folder

    if plot and form:
        raise click.UsageError("--plot is drawn beneath a table of text: leave out the other form")
    if output is not None:
        check_folder(output)
    pipelines = [Pipeline.load(file, sets=sets, smoke=smoke, store=store) for file in dict.fromkeys(files)]
    found = compared(pipelines, protocols=protocols, stages=stages, images=paired)
    table = tabular.FORMS[form or "text"](found)
    if plot:
        from transfer.textplot import over_time

        table += "\n" + over_time(found)
    if output is None:
        click.echo(table)
    else:
        output.write_text(table + "\n", encoding="utf-8")
        click.echo(f"{output} written")
    if output is not None or form == "csv":  # a table alone has no room for them
        for line in tabular.beneath(found):
            click.echo(line, err=True)
    if found.damaged:
        sys.exit(4)


@cli.command()
@FILE
@_file_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.html",
    show_default=True,
    help="The page.",
)
def report(file: Path, sets: tuple[str, ...], smoke: bool, store: Path | None, output: Path) -> None:
    """One page of pictures, in one file: results, pipeline, clusters, networks, and where every number comes from."""
    from transfer import show
    from transfer.api import Pipeline
    from transfer.report import page

    written = page.write(Pipeline.load(file, sets=sets, smoke=smoke, store=store), output)
    click.echo(f"{output} written ({show.size(written.size)})")
    for label, what in written.damaged.items():
        click.echo(f"damaged, and left out: {label}: {what}", err=True)
    if written.damaged:
        sys.exit(4)


@cli.command()
@FILE
@_file_options
@AS_JSON
def verify(file: Path, sets: tuple[str, ...], smoke: bool, store: Path | None, as_json: bool) -> None:
    """Read every byte that FILE's results consist of, and compare it with what was written; exit with 4 on damage."""
    from transfer import upkeep
    from transfer.api import Pipeline

    found = upkeep.verify(Pipeline.load(file, sets=sets, smoke=smoke, store=store))
    _print(found, as_json, upkeep.verify_text)
    if found["damaged"]:
        sys.exit(4)


@cli.command()
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Where results are kept (or TRANSFER_STORE). [default: .transfer/]",
)
@click.option("--delete", is_flag=True, help="Delete; without it, only list.")
@AS_JSON
def gc(store: Path | None, delete: bool, as_json: bool) -> None:
    """List what no pipeline's latest run needs any more, in bytes; --delete removes it."""
    from transfer import upkeep
    from transfer.places import default_store
    from transfer.store import Store

    _print(upkeep.collect(Store(store or default_store()), delete), as_json, upkeep.collect_text)


@cli.command()
@FILE
@_file_options
@click.option("--mermaid", is_flag=True, help="As a Mermaid flowchart.")
@AS_JSON
def graph(file: Path, sets: tuple[str, ...], smoke: bool, store: Path | None, mermaid: bool, as_json: bool) -> None:
    """FILE as a picture: which stage reads what."""
    from transfer import show
    from transfer.api import Pipeline

    pipeline = Pipeline.load(file, sets=sets, smoke=smoke, store=store)
    _print(show.graph(pipeline), as_json, show.mermaid if mermaid else show.ascii_graph)


@cli.command()
@FILE
@click.argument("stage")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@_file_options
@click.option("--onnx", is_flag=True, help="Write model.onnx too (needs the extra: pip install 'transfer[onnx]').")
@AS_JSON
def export(
    file: Path,
    stage: str,
    folder: Path,
    sets: tuple[str, ...],
    smoke: bool,
    store: Path | None,
    onnx: bool,
    as_json: bool,
) -> None:
    """Write the model of STAGE into DIR: safetensors, PyTorch state dict, torch.export program, and a model card."""
    from transfer import export as exporting
    from transfer.api import Pipeline

    pipeline = Pipeline.load(file, sets=sets, smoke=smoke, store=store)
    _print(exporting.export(pipeline, stage, folder, onnx), as_json, exporting.text)


@cli.command()
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Where results are kept (or TRANSFER_STORE). [default: .transfer/]",
)
@AS_JSON
def doctor(store: Path | None, as_json: bool) -> None:
    """What is installed, which FAISS, which GPUs, which precision, and how much disk is free."""
    from transfer import doctor as examination
    from transfer.places import default_store

    found = examination.examine(store or default_store())
    _print(found, as_json, examination.text)
    if found["problems"]:
        sys.exit(1)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
def init(folder: Path) -> None:
    """Put the shipped pipeline files into FOLDER; files that are there already are left alone."""
    from transfer import upkeep

    for line in upkeep.initialise(folder):
        click.echo(line)


def _print(value: Any, as_json: bool, text: Callable[[Any], str] | None = None) -> str:
    told = json.dumps(value, indent=1, ensure_ascii=False) if as_json or text is None else text(value)
    click.echo(told)
    return told


def _said_before(file: Path, store: Path | None) -> bool:
    """Say again what this command said when there was nothing to do, if nothing has changed since."""
    told = answers.recall(_root(file, store))
    if told is not None:
        click.echo(told)
    return told is not None


def _keep(pipeline: Pipeline, told: str) -> None:
    files = pipeline.files()
    if files is not None:
        answers.keep(pipeline.root, told, files)


def _root(file: Path, store: Path | None) -> Path:
    return store.expanduser().resolve() if store else default_store(file)


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _command_to_go_on(stages: tuple[str, ...], force: bool, stopped_in: str) -> str:
    """The same command; where it forces what is cached, only from the stage on that did not end."""
    words = sys.argv[1:]
    if force and stopped_in:
        words = [word for word in words if word not in ("-f", "--force", "--only", "--from", *stages)]
        words += [stopped_in, "--from", "--force"]
    return shlex.join(["transfer", *words])


def main() -> None:
    """The entry point: a person sees messages, never a traceback; the exit code says what kind of end it was."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # until a run listens itself
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except TransferError as error:
        # What has a place starts with it, so that editors and terminals can jump there.
        placed = re.match(r"\S.*?:\d+:\d+: ", str(error))
        click.echo(f"{'' if placed else 'transfer: '}{error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        click.echo(f"transfer: {error}", err=True)
        sys.exit(1)
    except Exception as error:  # a fault of ours: a person gets the message, and the trace in a file
        with tempfile.NamedTemporaryFile("w", prefix="transfer-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
        click.echo(
            f"transfer: unexpected {type(error).__name__}: {error} (the whole trace is in {file.name})", err=True
        )
        sys.exit(1)
