"""Commands that check, delete and export results, examine the machine, and set up a new folder."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, ClassVar

import click

from transfer.cli.completion import complete_pages, complete_stages
from transfer.cli.options import AS_JSON, FILE, STAGES, STORE, print_value, results_options
from transfer.cli.text_output import echo
from transfer.errors import UsageError
from transfer.utils.paths import default_store, shipped_folder, store_folder


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
@results_options
@click.option(
    "--part",
    type=PartType(),
    metavar="N/TOTAL",
    default="1/1",
    help="Read one of TOTAL equal parts: 1/30 today, 2/30 tomorrow, and all in 30 days.",
)
@AS_JSON
def verify(
    file: Path | None,
    stages: tuple[str, ...],
    part: tuple[int, int],
    as_json: bool,
    **loading: Any,
) -> None:
    """Compare every byte of the results with its checksum.

    Reads all results of FILE, or those of STAGES and what they depend on. Without FILE, reads the
    whole store. Exits with code 4 if one is damaged.
    """
    from transfer.inspection import verification

    chosen = verification.Part(*part)
    if file is not None:
        from transfer.cli.results_file import results_file

        pipeline = results_file(file, **loading).load(stages)
        result = verification.verify_pipeline(pipeline, chosen)
    elif loading["sets"]:
        raise UsageError("--set replaces values of a pipeline file; name one: transfer verify FILE")
    else:
        root = store_folder(loading["store"])
        result = verification.verify_store(root, loading["smoke"], chosen)
    print_value(result, as_json, verification.verify_text)
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
    # Not resolved: pipeline files lie beside `.transfer` even where it is a link to another disk.
    opened = Store(Path(os.path.abspath(store.expanduser())) if store else default_store())
    result = garbage.collect_garbage(opened, rule, delete, kept)
    print_value(result, as_json, garbage.garbage_text)


@click.command()
@FILE
@click.argument("stage", shell_complete=complete_stages)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@results_options
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
    from transfer.cli.results_file import results_file
    from transfer.export import exporter

    read = results_file(file, **loading)
    try:
        pipeline = read.load()
    except UsageError:
        # Images of scores may be missing; the model card can do without those scores.
        pipeline = read.load([stage])
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
