"""Commands that check, delete and export results, examine the machine, and set up a new folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from transfer.cli.completion import complete_pages, complete_stages
from transfer.cli.options import AS_JSON, FILE, STAGES, STORE, file_options, print_value
from transfer.cli.text_output import echo
from transfer.errors import UsageError
from transfer.utils.paths import default_store, shipped_folder


class PartType(click.ParamType):
    """A part such as `1/30`, as a pair of numbers."""

    name = "part"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return the number of the part and the number of parts."""
        match = re.fullmatch(r"\s*([0-9]+)\s*/\s*([0-9]+)\s*", str(value))
        number, total = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= total:
            self.fail(f"'{value}' is not a part; write 1/30, 2/30, ... 30/30", param, ctx)
        return number, total


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@STAGES
@file_options
@click.option(
    "--part",
    type=PartType(),
    metavar="N/TOTAL",
    default="1/1",
    help="Read one of TOTAL equal parts: 1/30 today, 2/30 tomorrow, and all in 30 days.",
)
@AS_JSON
def verify(file: Path | None, part: tuple[int, int], as_json: bool, **loading: Any) -> None:
    """Compare every byte of the results with its checksum.

    Reads all results of FILE, or those of STAGES and what they depend on. Without FILE, reads the
    whole store. Exits with code 4 if one is damaged.
    """
    from transfer.api import Pipeline
    from transfer.inspection import verification

    chosen = verification.Part(*part)
    if file is not None:
        result = verification.verify_pipeline(Pipeline.load(file, **loading), chosen)
    elif loading["sets"]:
        raise UsageError("--set replaces values of a pipeline file; name one: transfer verify FILE")
    else:
        store = loading["store"]
        root = store.expanduser().resolve() if store else default_store()
        result = verification.verify_store(root, loading["smoke"], chosen)
    print_value(result, as_json, verification.verify_text)
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
@click.argument("stage", shell_complete=complete_stages)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@file_options
@click.option(
    "--onnx",
    is_flag=True,
    help="Write model.onnx too; needs pip install 'transfer[onnx]'.",
)
@click.option("--force", is_flag=True, help="Replace an earlier export in DIR, in one step.")
@AS_JSON
def export(
    file: Path,
    stage: str,
    folder: Path,
    onnx: bool,
    force: bool,
    as_json: bool,
    **loading: Any,
) -> None:
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
    result = exporter.export(pipeline, stage, folder, onnx, force)
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
@click.option("--force", is_flag=True, help="Replace files that exist.")
def init(folder: Path, force: bool) -> None:
    """Copy the example pipeline files to FOLDER.

    They go to FOLDER/pipelines. Files that exist are not changed.
    """
    from transfer.inspection.shipped_files import copy_pipelines

    for line in copy_pipelines(folder, force):
        echo(line)


@click.command()
@click.argument("page", required=False, shell_complete=complete_pages)
@click.option("--path", is_flag=True, help="Print the path of the page instead.")
def docs(page: str | None, path: bool) -> None:
    """Show a PAGE of the documentation, such as `run` or `docs/run.md`.

    Without PAGE, list all pages.
    """
    from transfer.inspection import shipped_files

    if page is None:
        folder = str(shipped_folder("docs"))
        titles = shipped_files.page_titles()
        echo(folder if path else shipped_files.titles_text(titles))
        return
    file = shipped_files.find_page(page)
    if path:
        echo(str(file))
    elif sys.stdout.isatty():
        click.echo_via_pager(file.read_text(encoding="utf-8"))
    else:
        echo(file.read_text(encoding="utf-8").removesuffix("\n"))
