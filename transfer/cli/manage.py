"""Commands that check, delete and export results, examine the machine, and set up a new folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from transfer.cli.options import AS_JSON, FILE, STAGES, STORE, file_options, print_value
from transfer.errors import UsageError
from transfer.utils.paths import default_store


@click.command()
@FILE
@STAGES
@file_options
@AS_JSON
def verify(file: Path, as_json: bool, **loading: Any) -> None:
    """Compare every byte of the results with its checksum.

    Checks all results of FILE, or those of STAGES and what they depend on. Exits with code 4 if
    one is damaged.
    """
    from transfer.api import Pipeline
    from transfer.inspection import maintenance

    result = maintenance.verify(Pipeline.load(file, **loading))
    print_value(result, as_json, maintenance.verify_text)
    if result["damaged"]:
        sys.exit(4)


@click.command()
@STORE
@click.option("--delete", is_flag=True, help="Delete them; without it, they are only listed.")
@AS_JSON
def gc(store: Path | None, delete: bool, as_json: bool) -> None:
    """List or delete results that no pipeline needs.

    The latest results of each pipeline are kept, and everything that they were made from.
    """
    from transfer.inspection import maintenance
    from transfer.storage.store import Store

    result = maintenance.collect_garbage(Store(store or default_store()), delete)
    print_value(result, as_json, maintenance.garbage_text)


@click.command()
@FILE
@click.argument("stage")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@file_options
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
    from transfer.api import Pipeline
    from transfer.export import exporter

    try:
        pipeline = Pipeline.load(file, **loading)
    except UsageError:
        # Images of scores may be missing; the model card can do without those scores.
        pipeline = Pipeline.load(file, **loading, stages=[stage])
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
