"""The provenance of each stage: options, inputs, figures, environment, and its command."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from transfer.artifacts import Model, Scores
from transfer.artifacts.scores import ScoreCard
from transfer.comparison.figures import figure_name, percent
from transfer.comparison.text_table import count_text
from transfer.report.collect import FinishedStage, ReportData, ReportStage
from transfer.report.training import is_accuracy
from transfer.utils.formatting import MISSING, figure_text, inline_yaml

NO_IMAGES = "nothing"  # begins the word of a card for a choice that was made on no images


@dataclass(frozen=True)
class ScoreTable:
    """All figures of finished scores with their intervals, the main one first."""

    protocol: str
    counts: str
    selected: str
    main: str
    rows: list[tuple[str, str, str]]


@dataclass
class Provenance:
    """All that is known of a stage."""

    stage: ReportStage
    command: str
    options: list[tuple[str, str]]
    inputs: list[tuple[str, ReportStage]]
    seed: int | None
    version: int
    scores: ScoreTable | None = None
    figures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def stage_provenance(report: ReportData, stage: ReportStage) -> Provenance:
    """The provenance of a stage, finished or not."""
    planned, identity = stage.planned, stage.planned.identity
    provenance = Provenance(
        stage,
        report.command("run", *([] if planned.is_pack else [stage.label])),
        _flat_options(identity["options"]) if identity["options"] else [],
        _inputs(report, stage),
        identity.get("seed"),
        identity["version"],
    )
    if not isinstance(stage, FinishedStage):
        return provenance
    provenance.notes = stage.manifest.notes
    if issubclass(planned.stage.produces, Scores):
        with report.reading(stage):
            provenance.scores = score_table(stage.checked(Scores, "scores.json").card)
    if provenance.scores is None:
        provenance.figures = _figures(stage)
    return provenance


def score_table(card: ScoreCard) -> ScoreTable:
    """The table of a card, `scores.json`."""
    main, selected = card.main, card.selected
    rows = []
    for figure in sorted(card.figures, key=lambda figure: figure != main):
        interval = card.intervals.get(figure)
        text = f"[{interval[0]:.1f}, {interval[1]:.1f}] %" if interval else MISSING
        name = _figure_name(figure, main, selected)
        rows.append((name, percent(card.figures[figure]), text))
    return ScoreTable(
        card.protocol,
        count_text(card.counts),
        _selection_text(selected),
        _figure_name(main, main, selected) if main else "",
        rows,
    )


def _selection_text(selected: dict[str, Any]) -> str:
    """`layer conv4, selected on 10% of the training split, held out`."""
    texts = [f"{name} {inline_yaml(value)}" for name, value in selected.items() if name != "on"]
    images = selected.get("on", NO_IMAGES)
    if images.partition(":")[0] != NO_IMAGES:
        texts.append(f"selected on {images}")
    return ", ".join(texts)


def _inputs(report: ReportData, stage: ReportStage) -> list[tuple[str, ReportStage]]:
    """The name of each input, and of each set of images, with the stage that makes it."""
    planned = stage.planned
    inputs = [(name, report.by_key[source.key]) for name, source in planned.inputs.items()]
    for role, pack in planned.images.items():
        name = role if role == "images" else f"{role} images"
        inputs.append((name, report.by_key[pack.key]))
    return inputs


def _figure_name(figure: str, main: str | None, selected: dict[str, Any]) -> str:
    return figure_name(figure, [selected.get("layer")]) if figure == main else figure


def _figures(stage: FinishedStage) -> list[tuple[str, str]]:
    """The figures of a stage; the accuracies of a training as percents."""
    is_training = issubclass(stage.planned.stage.produces, Model)
    figures = []
    for name, value in stage.manifest.figures.items():
        if is_training and is_accuracy(name) and isinstance(value, float):
            figures.append((name, percent(100 * value)))
        else:
            figures.append((name, figure_text(value)))
    return figures


def _flat_options(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested options as `backbone.width` with their values."""
    if not isinstance(value, dict) or not value:
        return [(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]
    options = []
    for key, nested in value.items():
        options += _flat_options(nested, f"{name}.{key}" if name else str(key))
    return options
