"""Commands that only read: what a file can use, what it asks for, and its results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from transfer.cli.completion import complete_listed, complete_stages
from transfer.cli.options import (
    AS_JSON,
    FILE,
    STAGES,
    Kind,
    file_options,
    json_text,
    print_value,
    results_options,
)
from transfer.cli.text_output import echo
from transfer.errors import UsageError
from transfer.utils.output_file import write_output
from transfer.utils.paths import check_output_folder

IN_TERMINAL = "-"  # the plot of `compare --plot` without a picture


@click.command("list")
@click.argument("what", type=Kind(), default="stages")
@click.argument("name", required=False, shell_complete=complete_listed)
@AS_JSON
@click.option(
    "--schema", is_flag=True, help="Print the JSON Schema of pipeline files, for editors."
)
def list_(what: str, name: str | None, as_json: bool, schema: bool) -> None:
    """List what a pipeline file can use.

    WHAT is stages, pretexts, targets, protocols (how a network is evaluated), backbones or data
    (image sets). With NAME, describe one of them with all of its options.
    """
    from transfer.inspection import listing

    if schema:
        from transfer.inspection.json_schema import pipeline_schema

        echo(json_text(pipeline_schema()), wrap=False)
    elif name is None:
        print_value(listing.listing(what), as_json, listing.listing_text)
    else:
        print_value(listing.describe(what, name), as_json, listing.describe_text)


@click.command()
@FILE
@click.argument("stage", required=False, shell_complete=complete_stages)
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
        echo(f"{batch} written")
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


class _CompareCommand(click.Command):
    """The command `compare`, whose `--plot` takes the name of a picture or nothing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; a pipeline file after `--plot` is no picture."""
        words, end = [], args.index("--") if "--" in args else len(args)
        for place, word in enumerate(args):
            following = args[place + 1 : place + 2]
            is_picture = following and Path(following[0]).suffix.lower() not in (".yaml", ".yml")
            bare = word == "--plot" and place < end and not is_picture
            words.append(f"--plot={IN_TERMINAL}" if bare else word)
        return super().parse_args(ctx, words)


@click.command(cls=_CompareCommand)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@results_options
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_stages,
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
@click.option(
    "--plot",
    metavar="[PICTURE]",
    is_flag=False,
    flag_value=IN_TERMINAL,
    help="Plot the scores over training time, below the table; or to a .png, .svg or .pdf.",
)
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
    plot: str | None,
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

    picture = Path(plot) if plot not in (None, IN_TERMINAL) else None
    if plot == IN_TERMINAL and form:
        raise click.UsageError(
            "--plot adds to a table of text; drop the other format, or name a picture: --plot x.png"
        )
    if output is not None:
        check_output_folder(output)
    if picture is not None:
        from transfer.report.drawing import check_picture

        check_picture(picture)
    pipelines = [results_file(file, **loading).load() for file in dict.fromkeys(files)]
    comparison = compare_scores(pipelines, protocols=protocols, stages=stages, paired=paired)
    table = render.FORMATS[form or "text"](comparison)
    if plot == IN_TERMINAL:
        from transfer.comparison.terminal_plot import time_plot

        table += "\n" + time_plot(comparison)
    if output is None:
        echo(json_text(json.loads(table)) if form == "json" else table, wrap=form is None)
    else:
        write_output(output, table + "\n")
        echo(f"{output} written")
    if picture is not None:
        from transfer.report.comparison_picture import comparison_picture

        comparison_picture(comparison).save(picture)
        echo(f"{picture} written", err=output is None)
    if output is not None or form == "csv":  # the table itself has no room for the notes
        for line in render.footer_lines(comparison):
            echo(line, err=True)
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
    echo(f"{output} written ({file_size(written.size)})")
    for label, problem in written.damaged.items():
        echo(f"damaged, and left out: {label}: {problem}", err=True)
    if written.damaged:
        sys.exit(4)
