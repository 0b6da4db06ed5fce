"""The page: one HTML file without any resource from elsewhere."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from transfer.api import Pipeline
from transfer.comparison.figures import percent
from transfer.errors import TransferError
from transfer.execution.expectation import verdicts
from transfer.report.cluster_montages import FULL_WIDTH, montage_section
from transfer.report.cluster_sizes import size_plots
from transfer.report.collect import ReportData, ReportStage
from transfer.report.comparison_tables import compare_report, comparison_tables
from transfer.report.first_filters import first_filters
from transfer.report.label_curves import label_curves
from transfer.report.members import group_by_name
from transfer.report.nearest_neighbors import neighbor_section
from transfer.report.pipeline_graph import pipeline_svg
from transfer.report.probe_plots import probe_plots
from transfer.report.provenance import stage_provenance
from transfer.report.training import previews, training_curves
from transfer.utils.formatting import duration, file_size
from transfer.utils.output_file import write_output
from transfer.utils.paths import check_output_folder
from transfer.version import __version__

FOLDER = Path(__file__).parent
MAX_PENDING_LINES = 30
MAX_BEST = 6  # figures at the top of the page


@dataclass(frozen=True)
class WrittenReport:
    """A report that was written; `damaged`: label -> why an artifact is not shown."""

    path: Path
    size: int
    damaged: dict[str, str]


@dataclass(frozen=True)
class PendingStages:
    """The stages that are not finished, those with one reason joined, and their command."""

    stages: list[tuple[str, str, str]]  # label, method, reason
    hidden: int
    count: int
    total: int
    command: str


def write(pipeline: Pipeline, target: Path) -> WrittenReport:
    """Write the page; TransferError where no stage of the pipeline is finished."""
    check_output_folder(target)
    text, damaged = page(pipeline)
    data = text.encode("utf-8", "backslashreplace")
    write_output(target, data)
    return WrittenReport(target, len(data), damaged)


def page(pipeline: Pipeline) -> tuple[str, dict[str, str]]:
    """The HTML, and what is damaged and therefore not shown."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    report = ReportData.read(pipeline)
    if not any(stage.is_finished for stage in report.methods):
        command = report.command("run", *pipeline.selected)
        raise TransferError(
            f"{pipeline.plan.file}: nothing to report, no stage is made yet; make them:\n{command}"
        )
    comparison, no_comparison = compare_report(report)
    members = itertools.chain(*group_by_name(report.stages).values())
    values = {
        "name": pipeline.plan.name,
        "smoke": pipeline.plan.smoke,
        "version": __version__,
        "about": file_comment(pipeline.plan.file),
        "tables": comparison_tables(comparison),
        "no_comparison": no_comparison,
        "expected": verdicts(
            pipeline.store, [stage.planned for stage in report.stages if stage.is_finished]
        ),
        "max_best": MAX_BEST,
        "pending": _pending_stages(report),
        "graph": pipeline_svg(report),
        "packs": [stage for stage in report.stages if stage.planned.is_pack],
        "curves": training_curves(report),
        "previews": previews(report),
        "clusters": montage_section(report),
        "montage_width": FULL_WIDTH,
        "sizes": size_plots(report),
        "neighbors": neighbor_section(report),
        "filters": first_filters(report),
        "probes": probe_plots(report, comparison),
        "label_curves": label_curves(report),
        "provenance": [stage_provenance(report, stage) for stage in members],
        "compare_command": report.command("compare"),
        "style": (FOLDER / "page.css").read_text(encoding="utf-8"),
        "duration": duration,
        "file_size": file_size,
    }
    # After all sections, which record the damage that they meet.
    damaged = dict(report.damaged)
    damaged |= {score.stage: score.reason for score in (comparison.damaged if comparison else ())}
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(FOLDER),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = inline_code
    environment.filters["percent"] = percent
    template = environment.get_template("page.html")
    return template.render(values, damaged=damaged), damaged


def file_comment(file: Path) -> list[tuple[str, str]]:
    """The comment at the top of a pipeline file as paragraphs.

    Returns ("text" or "code", words) for each; indented lines are code.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        return []
    head = itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), lines)
    blocks: list[tuple[str, str]] = []
    for line in head:
        if not line.startswith("#") or "yaml-language-server" in line:
            continue
        text = line[1:].removeprefix(" ")
        kind = "code" if text.startswith(" ") else "text"
        text = text.strip()
        if text and blocks and blocks[-1][0] == kind and blocks[-1][1]:
            separator = "\n" if kind == "code" else " "
            blocks[-1] = (kind, blocks[-1][1] + separator + text)
        else:
            blocks.append((kind, text))
    return [(kind, text) for kind, text in blocks if text]


def inline_code(text: str) -> Markup:
    """Escaped text, with what is in backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _pending_stages(report: ReportData) -> PendingStages | None:
    """The stages that are not finished; None where all are."""
    pending = [stage for stage in report.methods if not stage.is_finished]
    if not pending:
        return None
    groups: dict[tuple[str, str, str], list[ReportStage]] = {}
    for stage in pending:
        reason = stage.status.reason or "not made yet"
        key = (stage.planned.name, stage.planned.uses, reason)
        groups.setdefault(key, []).append(stage)
    lines = []
    for (name, uses, reason), members in groups.items():
        label = members[0].label if len(members) == 1 else f"{name} ×{len(members)}"
        lines.append((label, uses, reason))
    return PendingStages(
        lines[:MAX_PENDING_LINES],
        max(0, len(lines) - MAX_PENDING_LINES),
        len(pending),
        len(report.methods),
        report.command("run", *report.pipeline.selected),
    )
