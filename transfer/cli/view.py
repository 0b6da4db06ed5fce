"""Commands that only read: what a file can use, what it asks for, and its results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from transfer.cli.options import (
    AS_JSON,
    FILE,
    STAGES,
    file_options,
    print_value,
    results_options,
)
from transfer.errors import UsageError
from transfer.utils.paths import check_output_folder


@click.command("list")
@click.argument(
    "what", type=click.Choice(["stages", "pretexts", "backbones", "data"]), default="stages"
)
@click.argument("name", required=False)
@AS_JSON
@click.option(
    "--schema", is_flag=True, help="Print the JSON Schema of pipeline files, for editors."
)
def list_(what: str, name: str | None, as_json: bool, schema: bool) -> None:
    """List the stages, backbones or image sets to choose from.

    With NAME, describe one of them with all of its options.
    """
    from transfer.inspection import listing

    if schema:
        from transfer.inspection.json_schema import pipeline_schema

        click.echo(json.dumps(pipeline_schema(), indent=1, ensure_ascii=False))
    elif name is None:
        print_value(listing.listing(what), as_json, listing.listing_text)
    else:
        print_value(listing.describe(what, name), as_json, listing.describe_text)


@click.command()
@FILE
@click.argument("stage", required=False)
@results_options
@AS_JSON
@click.option(
    "--batch",
    type=click.Path(path_type=Path),
    metavar="PNG",
    help="Write a picture of a few images on their way into the network of STAGE.",
)
def show(file: Path, stage: str | None, as_json: bool, batch: Path | None, **loading: Any) -> None:
    """Show the results of FILE, or one of its stages.

    For a STAGE: options, figures, files, and where and how the result was made.
    """
    from transfer.cli.results_file import results_file
    from transfer.inspection import views

    pipeline = results_file(file, **loading).load([stage] if stage else [])
    if batch is not None:
        from transfer.inspection.batch_preview import write_preview

        if stage is None:
            raise UsageError("--batch needs a stage: transfer show FILE STAGE --batch picture.png")
        write_preview(pipeline, stage, batch)
        click.echo(f"{batch} written")
    elif stage is None:
        print_value(views.results_json(pipeline), as_json, views.results_text)
    else:
        print_value(views.stage_json(pipeline, stage), as_json, views.stage_text)


@click.command()
@FILE
@STAGES
@file_options
@click.option("--mermaid", is_flag=True, help="Print a Mermaid flowchart.")
@AS_JSON
def graph(file: Path, mermaid: bool, as_json: bool, **loading: Any) -> None:
    """Show how the stages of FILE depend on one another.

    With STAGES, only these and what they depend on.
    """
    from transfer.api import Pipeline
    from transfer.inspection import views

    value = views.graph_json(Pipeline.load(file, **loading))
    print_value(value, as_json, views.graph_mermaid if mermaid else views.graph_text)


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@results_options
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="NAME",
    help="Only scores of this evaluation stage.",
)
@click.option(
    "--protocol", "protocols", multiple=True, metavar="NAME", help="Only scores of this protocol."
)
@click.option(
    "--paired",
    is_flag=True,
    help="Where there is one seed: intervals of differences over test images.",
)
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, with every digit.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--latex", "form", flag_value="latex", help="Print LaTeX.")
@click.option("--plot", is_flag=True, help="Plot the scores over training time, below the table.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="Write the table to a file.",
)
def compare(
    files: tuple[Path, ...],
    stages: tuple[str, ...],
    protocols: tuple[str, ...],
    paired: bool,
    form: str | None,
    plot: bool,
    output: Path | None,
    **loading: Any,
) -> None:
    """Compare all finished scores in one table.

    The rows are pretext tasks and targets, over seeds, beside random weights and training with
    labels.
    """
    from transfer.cli.results_file import results_file
    from transfer.comparison import render
    from transfer.comparison.compare import compare as compare_scores

    if plot and form:
        raise click.UsageError("--plot adds to a table of text; drop the other format")
    if output is not None:
        check_output_folder(output)
    pipelines = [results_file(file, **loading).load() for file in dict.fromkeys(files)]
    comparison = compare_scores(pipelines, protocols=protocols, stages=stages, paired=paired)
    table = render.FORMATS[form or "text"](comparison)
    if plot:
        from transfer.comparison.terminal_plot import time_plot

        table += "\n" + time_plot(comparison)
    if output is None:
        click.echo(table)
    else:
        output.write_text(table + "\n", encoding="utf-8")
        click.echo(f"{output} written")
    if output is not None or form == "csv":  # the table itself has no room for the notes
        for line in render.footer_lines(comparison):
            click.echo(line, err=True)
    if comparison.damaged:
        sys.exit(4)


@click.command()
@FILE
@STAGES
@results_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    default="report.html",
    show_default=True,
    help="File to write.",
)
def report(file: Path, stages: tuple[str, ...], output: Path, **loading: Any) -> None:
    """Write an HTML report of the results.

    It shows scores, the pipeline, clusters, networks, and the source of every number. With STAGES,
    only these and what they depend on.
    """
    from transfer.cli.results_file import results_file
    from transfer.report import page
    from transfer.utils.formatting import file_size

    written = page.write(results_file(file, **loading).load(stages), output)
    click.echo(f"{output} written ({file_size(written.size)})")
    for label, problem in written.damaged.items():
        click.echo(f"damaged, and left out: {label}: {problem}", err=True)
    if written.damaged:
        sys.exit(4)
