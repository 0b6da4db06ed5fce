"""Commands that check, delete and export results, examine the machine, and set up a new folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, ClassVar

import click

from transfer.cli.options import AS_JSON, FILE, STAGES, STORE, print_value, results_options
from transfer.errors import UsageError
from transfer.utils.paths import default_store


@click.command()
@FILE
@STAGES
@results_options
@AS_JSON
def verify(file: Path, stages: tuple[str, ...], as_json: bool, **loading: Any) -> None:
    """Compare every byte of the results with its checksum.

    Checks all results of FILE, or those of STAGES and what they depend on. Exits with code 4 if
    one is damaged.
    """
    from transfer.cli.results_file import results_file
    from transfer.inspection import maintenance

    result = maintenance.verify(results_file(file, **loading).load(stages))
    print_value(result, as_json, maintenance.verify_text)
    if result["damaged"]:
        sys.exit(4)


class AgeType(click.ParamType):
    """An age such as `30d`, in seconds."""

    name = "age"
    units: ClassVar[dict[str, int]] = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; a usage error for anything else than a number with its unit."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(value).strip())
        if match is None or (match[2] not in self.units and float(match[1]) != 0):
            self.fail(f"'{value}' is no age; write 30d, 12h or 2w", param, ctx)
        return float(match[1]) * self.units.get(match[2], 0)


@click.command()
@STORE
@click.option("--delete", is_flag=True, help="Delete them; without it, they are only listed.")
@click.option(
    "--older-than",
    "seconds",
    type=AgeType(),
    metavar="AGE",
    help="Keep what was used within AGE: 30d, 12h, 2w. [default: 30d; none with --keep]",
)
@click.option(
    "--keep",
    type=click.IntRange(0),
    metavar="N",
    help="Keep what the last N runs of each file used that asked for different results.",
)
@click.option(
    "--forget",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Do not count a pipeline file that is gone or not needed any more.",
)
@click.option("--kept", is_flag=True, help="List what stays too, and why.")
@AS_JSON
def gc(
    store: Path | None,
    delete: bool,
    seconds: float | None,
    keep: int | None,
    forget: tuple[Path, ...],
    kept: bool,
    as_json: bool,
) -> None:
    """List or delete results that nobody needs, with the reason for each.

    Kept are the results that a pipeline file asks for now, that a run with a tag used, that any run
    used in the last 30 days, and everything that these were made from. A file that cannot be read
    keeps all of its results.
    """
    from transfer.inspection import garbage
    from transfer.inspection.keeping import DAY, DEFAULT_DAYS, KeepingRule
    from transfer.storage.store import Store

    if seconds is None and keep is None:
        seconds = DEFAULT_DAYS * DAY
    rule = KeepingRule(seconds, keep, forget)
    opened = Store(store.expanduser().resolve() if store else default_store())
    result = garbage.collect_garbage(opened, rule, delete, kept)
    print_value(result, as_json, garbage.garbage_text)


@click.command()
@FILE
@click.argument("stage")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@results_options
@click.option(
    "--onnx",
    is_flag=True,
    help="Write model.onnx too; needs pip install 'transfer[onnx]'.",
)
@AS_JSON
def export(file: Path, stage: str, folder: Path, onnx: bool, as_json: bool, **loading: Any) -> None:
    """Export the model of STAGE to the folder DIR.

    Writes safetensors, a PyTorch state dict, a torch.export program and a model card.
    """
    from transfer.cli.results_file import results_file
    from transfer.export import exporter

    read = results_file(file, **loading)
    try:
        pipeline = read.load()
    except UsageError:
        # Images of scores may be missing; the model card can do without those scores.
        pipeline = read.load([stage])
    result = exporter.export(pipeline, stage, folder, onnx)
    print_value(result, as_json, exporter.export_text)


@click.command()
@STORE
@AS_JSON
def doctor(store: Path | None, as_json: bool) -> None:
    """Check the installation and the machine.

    Reports versions, FAISS, GPUs, precision and free disk space. Exits with code 1 if there is a
    problem.
    """
    from transfer.inspection.doctor import doctor_text, examine

    facts = examine(store or default_store())
    print_value(facts, as_json, doctor_text)
    if facts["problems"]:
        sys.exit(1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
def init(folder: Path) -> None:
    """Copy the example pipeline files to FOLDER.

    They go to FOLDER/pipelines. Files that exist are not changed.
    """
    from transfer.inspection import maintenance

    for line in maintenance.initialize(folder):
        click.echo(line)
