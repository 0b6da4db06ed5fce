"""The page: gather, draw, fill the template. One file that loads nothing from anywhere."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from transfer.api import Pipeline
from transfer.artifacts import ScoreCard, Scores
from transfer.comparison.render import count_text
from transfer.errors import TransferError
from transfer.execution.expectation import verdicts
from transfer.report import cluster_montages, nearest_neighbors, pipeline_graph, scores, training
from transfer.report.collect import ReportData, ReportStage, by_name
from transfer.utils.formatting import duration, file_size
from transfer.utils.paths import check_output_folder
from transfer.version import __version__

HERE = Path(__file__).parent
MISSING = 30  # lines that say what is not there
BEST = 6  # figures at the head of the page


@dataclass(frozen=True)
class Written:
    """What became of a report: where it lies, how large it is, what could not be read."""

    path: Path
    size: int
    damaged: dict[str, str]


def write(pipeline: Pipeline, target: Path) -> Written:
    """Make the page and write it; TransferError where nothing of the pipeline is done."""
    check_output_folder(target)
    text, damaged = page(pipeline)
    data = text.encode("utf-8")
    target.write_bytes(data)
    return Written(target, len(data), damaged)


def page(pipeline: Pipeline) -> tuple[str, dict[str, str]]:
    """The whole page, and what of it is damaged and therefore not shown."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    report = ReportData.read(pipeline)
    if not any(one.made for one in report.methods):
        lines = [
            f"{pipeline.plan.file}: nothing of it is made yet, there is nothing to report; to make it:"
        ]
        raise TransferError("\n".join([*lines, report.command("run", *report.pipeline.selected)]))
    comparison, why = scores.compared(report)
    provenance = [
        _provenance(report, one) for some in by_name(report.stages).values() for one in some
    ]
    told = {
        "name": pipeline.plan.name,
        "smoke": pipeline.plan.smoke,
        "version": __version__,
        "about": about(pipeline.plan.file),
        "sections": scores.sections(comparison),
        "why": why,
        "expected": verdicts(pipeline.store, [one.planned for one in report.stages if one.made]),
        "most": BEST,
        "missing": _missing(report),
        "graph": pipeline_graph.drawing(report),
        "packs": [one for one in report.stages if one.planned.is_pack],
        "curves": training.curves(report),
        "views": training.views(report),
        "montages": cluster_montages.montages(report),
        "sizes": cluster_montages.sizes(report),
        "neighbors": nearest_neighbors.neighbors(report),
        "filters": training.first_filters(report),
        "probes": scores.probes(report, comparison),
        "taught": scores.curves(report),
        "provenance": provenance,
        "compare_command": report.command("compare"),
        "duration": duration,
        "bytes": file_size,
    }
    told["damaged"] = report.damaged | {
        one["stage"]: one["why"] for one in (comparison.damaged if comparison else [])
    }
    told["style"] = (HERE / "page.css").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(HERE),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = code
    return environment.get_template("page.html").render(told), told["damaged"]


def about(file: Path) -> list[tuple[str, str]]:
    """The comment at the head of a pipeline file as (`text` or `code`, words): indented lines are commands."""
    try:
        written = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        return []
    head = itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), written)
    told = [
        line[1:].removeprefix(" ")
        for line in head
        if line.startswith("#") and "yaml-language-server" not in line
    ]
    blocks: list[tuple[str, str]] = []
    for line in told:
        kind = "code" if line.startswith(" ") else "text"
        if blocks and blocks[-1][0] == kind and line.strip() and blocks[-1][1]:
            blocks[-1] = (
                kind,
                f"{blocks[-1][1]}{chr(10) if kind == 'code' else ' '}{line.strip()}",
            )
        else:
            blocks.append((kind, line.strip()))
    return [(kind, text) for kind, text in blocks if text]


def code(text: str) -> Markup:
    """What stands in backticks as code; all of it escaped."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _missing(report: ReportData) -> dict[str, Any] | None:
    """The stages that are not there, why, and the command that makes them."""
    pending = [one for one in report.methods if not one.made]
    if not pending:
        return None
    alike: dict[tuple[str, str, str], list[ReportStage]] = {}
    for one in pending:
        alike.setdefault(
            (one.planned.name, one.planned.uses, one.state.reason or "not made yet"), []
        ).append(one)
    told = [
        (some[0].label if len(some) == 1 else f"{name} ×{len(some)}", uses, why)
        for (name, uses, why), some in alike.items()
    ]
    return {
        "stages": told[:MISSING],
        "more": len(told) - MISSING,
        "count": len(pending),
        "of": len(report.methods),
        "command": report.command("run", *report.pipeline.selected),
    }


def _provenance(report: ReportData, one: ReportStage) -> dict[str, Any]:
    """All that is known of a stage."""
    identity = one.planned.identity
    command = report.command("run", *([] if one.planned.is_pack else [one.label]))
    told: dict[str, Any] = {
        "found": one,
        "command": command,
        "options": _flat(identity["options"]),
        "inputs": [
            (name, report.by_key[other.key]) for name, other in one.planned.dependencies.items()
        ],
        "seed": identity.get("seed"),
        "version": identity["version"],
        "scores": [],
        "figures": [],
        "notes": [],
    }
    if not one.made:
        return told
    figures = one.manifest.figures
    told["notes"] = one.manifest.notes
    if issubclass(one.planned.stage.produces, Scores):
        with report.reading(one):
            told["scores"] = _scores(one.checked("scores.json").card)
    if not told["scores"]:
        told["figures"] = [
            (name, f"{value:.4g}" if isinstance(value, float) else str(value))
            for name, value in figures.items()
        ]
    return told


def _scores(card: ScoreCard) -> dict[str, Any]:
    """Every figure of a score with its interval, the main one first."""
    main = card.main
    names = sorted(card.figures, key=lambda name: name != main)
    rows = [
        (name, f"{card.figures[name]:.2f}", _interval(card.intervals.get(name)))
        for name in names
    ]
    counts = count_text(card.counts)
    selected = ", ".join(f"{name}: {value}" for name, value in card.selected.items())
    return {
        "protocol": card.protocol,
        "main": main,
        "rows": rows,
        "counts": counts,
        "selected": selected,
    }


def _interval(span: list[float] | None) -> str:
    return f"[{span[0]:.2f}, {span[1]:.2f}]" if span else "–"


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Options as `backbone.width` and what is given for it."""
    if isinstance(value, dict) and value:
        return [
            one
            for key, inner in value.items()
            for one in _flat(inner, f"{name}.{key}" if name else str(key))
        ]
    return [(name, json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)]
