"""Commands that show: what can be used, what a file asks for, what came out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from transfer.cli.options import AS_JSON, FILE, STAGES, file_options, show_value
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
    """What a pipeline file can use: stages, pretexts, backbones or data; with NAME, all of its options."""
    from transfer.inspection import listing

    if schema:
        from transfer.inspection.json_schema import pipeline_schema as json_schema

        show_value(json_schema(), True)
    elif name is None:
        show_value(listing.listing(what), as_json, listing.listing_text)
    else:
        show_value(listing.describe(what, name), as_json, listing.describe_text)


@click.command()
@FILE
@click.argument("stage", required=False)
@file_options
@AS_JSON
@click.option(
    "--batch",
    type=click.Path(path_type=Path),
    metavar="PNG",
    help="Write a picture of what the stage's network sees.",
)
def show(file: Path, stage: str | None, as_json: bool, batch: Path | None, **reading: Any) -> None:
    """The results of FILE, or all that is known of one STAGE: options, figures, files, where and how it was made."""
    from transfer.api import Pipeline
    from transfer.inspection import views as views

    pipeline = Pipeline.load(file, **reading, stages=[stage] if stage else [])
    if batch is not None:
        from transfer.inspection.batch_preview import batch_picture

        if stage is None:
            raise UsageError("--batch needs a stage: transfer show FILE STAGE --batch picture.png")
        click.echo(f"{batch_picture(pipeline, stage, batch)} written")
        return
    found = views.results_json(pipeline) if stage is None else views.stage_json(pipeline, stage)
    show_value(found, as_json, views.results_text if stage is None else views.stage_text)


@click.command()
@FILE
@STAGES
@file_options
@click.option("--mermaid", is_flag=True, help="As a Mermaid flowchart.")
@AS_JSON
def graph(file: Path, mermaid: bool, as_json: bool, **reading: Any) -> None:
    """FILE as a picture, or what STAGES stand on: which stage reads what."""
    from transfer.api import Pipeline
    from transfer.inspection import views

    pipeline = Pipeline.load(file, **reading)
    show_value(
        views.graph_json(pipeline), as_json, views.graph_mermaid if mermaid else views.graph_text
    )


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@file_options
@click.option(
    "--stage", "stages", multiple=True, metavar="NAME", help="Only scores of this evaluating stage."
)
@click.option(
    "--protocol", "protocols", multiple=True, metavar="NAME", help="Only scores of this protocol."
)
@click.option(
    "--paired", is_flag=True, help="Of one seed: intervals of differences over the test images."
)
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, every digit.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--latex", "form", flag_value="latex", help="Print LaTeX.")
@click.option(
    "--plot", is_flag=True, help="Draw the figures over the time of training, beneath the table."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
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
    **reading: Any,
) -> None:
    """One table of all finished scores: each pretext and target, over seeds, beside random weights and labels."""
    from transfer.api import Pipeline
    from transfer.comparison import render
    from transfer.comparison.compare import compare as compare_scores

    if plot and form:
        raise click.UsageError("--plot adds to a table of text; drop the other format")
    if output is not None:
        check_output_folder(output)
    pipelines = [Pipeline.load(file, **reading) for file in dict.fromkeys(files)]
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
    if output is not None or form == "csv":  # a table alone has no room for them
        for line in render.footer_lines(comparison):
            click.echo(line, err=True)
    if comparison.damaged:
        sys.exit(4)


@click.command()
@FILE
@STAGES
@file_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.html",
    show_default=True,
    help="The page.",
)
def report(file: Path, output: Path, **reading: Any) -> None:
    """One page of pictures: results, pipeline, clusters, networks, and where every number comes from.

    With STAGES, of these and what they stand on.
    """
    from transfer.api import Pipeline
    from transfer.inspection import views
    from transfer.report import page

    written = page.write(Pipeline.load(file, **reading), output)
    click.echo(f"{output} written ({views.file_size(written.size)})")
    for label, reason in written.damaged.items():
        click.echo(f"damaged, and left out: {label}: {reason}", err=True)
    if written.damaged:
        sys.exit(4)
