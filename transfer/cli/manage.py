"""Commands about results as things: check, delete and export them; about the machine; and to begin with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from transfer.cli.options import AS_JSON, FILE, STAGES, STORE, file_options, show_value
from transfer.errors import UsageError
from transfer.utils.paths import default_store


@click.command()
@FILE
@STAGES
@file_options
@AS_JSON
def verify(file: Path, as_json: bool, **reading: Any) -> None:
    """Read every byte of FILE's results, or of what STAGES stand on, and compare it with what was written.

    Exit with 4 on damage.
    """
    from transfer.api import Pipeline
    from transfer.inspection import maintenance

    found = maintenance.verify(Pipeline.load(file, **reading))
    show_value(found, as_json, maintenance.verify_text)
    if found["damaged"]:
        sys.exit(4)


@click.command()
@STORE
@click.option("--delete", is_flag=True, help="Delete; without it, only list.")
@AS_JSON
def gc(store: Path | None, delete: bool, as_json: bool) -> None:
    """List what no pipeline's latest run needs any more, in bytes; --delete removes it."""
    from transfer.inspection import maintenance
    from transfer.storage.store import Store

    show_value(
        maintenance.collect_garbage(Store(store or default_store()), delete),
        as_json,
        maintenance.garbage_text,
    )


@click.command()
@FILE
@click.argument("stage")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@file_options
@click.option(
    "--onnx",
    is_flag=True,
    help="Write model.onnx too (needs the extra: pip install 'transfer[onnx]').",
)
@AS_JSON
def export(file: Path, stage: str, folder: Path, onnx: bool, as_json: bool, **reading: Any) -> None:
    """Write the model of STAGE into DIR: safetensors, PyTorch state dict, torch.export program, and a model card."""
    from transfer.api import Pipeline
    from transfer.export import exporter as exporting

    try:
        pipeline = Pipeline.load(file, **reading)
    except (
        UsageError
    ):  # of scores, perhaps, whose images are not there: the card can do without them
        pipeline = Pipeline.load(file, **reading, stages=[stage])
    show_value(exporting.export(pipeline, stage, folder, onnx), as_json, exporting.export_text)


@click.command()
@STORE
@AS_JSON
def doctor(store: Path | None, as_json: bool) -> None:
    """What is installed, which FAISS, which GPUs, which precision, and how much disk is free."""
    from transfer.inspection import doctor as examination

    found = examination.examine(store or default_store())
    show_value(found, as_json, examination.doctor_text)
    if found["problems"]:
        sys.exit(1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
def init(folder: Path) -> None:
    """Put the shipped pipeline files into FOLDER; files that are there already are left alone."""
    from transfer.inspection import maintenance

    for line in maintenance.initialize(folder):
        click.echo(line)
