"""The scores of an exported model: those in the store, as a table and as metadata of the Hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from transfer.api import Pipeline
from transfer.artifacts import Scores
from transfer.errors import CorruptArtifact
from transfer.execution.status import changed_input, find_manifest
from transfer.stage.base import PlannedStage

HEADER = [
    "| protocol | figure | score | 95 % interval | test set | images |",
    "|---|---|---|---|---|---|",
]


@dataclass
class ModelScores:
    """The evaluations of a model in a pipeline file."""

    finished: list[tuple[PlannedStage[Any], Scores]]
    missing: list[str]  # labels of the other stages, with the reason where it is not plain


def find_scores(pipeline: Pipeline, model: PlannedStage[Any]) -> ModelScores:
    """Collect the Scores of all stages of the file that read the planned model."""
    scores = ModelScores([], [])
    for planned in pipeline.plan:
        keys = {source.key for source in planned.inputs.values()}
        if planned.stage.produces is not Scores or model.key not in keys:
            continue
        manifest = find_manifest(pipeline.store, planned)
        artifact = Scores(pipeline.store.folder(planned.uses, planned.key))
        if manifest is None:
            scores.missing.append(planned.label)
        elif changed := changed_input(pipeline.store, planned, manifest):
            scores.missing.append(f"{planned.label} (its input `{changed}` was rebuilt since)")
        elif not _is_readable(artifact):
            scores.missing.append(f"{planned.label} (its scores are damaged, or in an old format)")
        else:
            scores.finished.append((planned, artifact))
    return scores


def _is_readable(scores: Scores) -> bool:
    try:
        return scores.card.is_complete
    except CorruptArtifact:
        return False


def hub_results(scores: ModelScores) -> list[dict[str, Any]]:
    """The main figures, as `model-index` of the Hugging Face Hub has them."""
    results = []
    for planned, artifact in scores.finished:
        protocol, main = artifact.card.protocol, artifact.card.main
        dataset = _test_set(planned)
        metric = {
            "type": main,
            "name": f"{protocol}: {main}",
            "value": round(artifact.figures[main], 2),
        }
        task = {"type": "image-classification", "name": protocol}
        results.append(
            {"task": task, "dataset": {"type": dataset, "name": dataset}, "metrics": [metric]}
        )
    return results


def scores_section(scores: ModelScores) -> str:
    """The section of the card: a table of all figures, and notes on them."""
    rows: list[str] = []
    notes: list[str] = []
    for planned, artifact in scores.finished:
        rows += _table_rows(planned, artifact)
        if selected := artifact.card.selected:
            notes.append(f"{artifact.card.protocol}: {_selection_text(selected)}.")
    if scores.missing:
        notes.append(f"Not evaluated yet: {', '.join(scores.missing)}.")
    parts = ["## Scores"]
    if rows:
        parts.append(
            "These are scores of one seed. The intervals are over test images, and do not include "
            "the variation between seeds. Bold: the main figure of a protocol."
        )
        parts.append("\n".join([*HEADER, *rows]))
    elif not scores.missing:
        notes.append("None: no stage of the pipeline file evaluates this model.")
    return "\n\n".join([*parts, *notes])


def _table_rows(planned: PlannedStage[Any], scores: Scores) -> list[str]:
    card, dataset = scores.card, _test_set(planned)
    count = Scores.tested(card.counts)
    number = "unknown" if count is None else f"{count:,}"
    rows = []
    for name, value in card.figures.items():
        figure = f"**{name}**" if name == card.main else name
        limits = card.intervals.get(name)
        interval = f"{limits[0]:.1f} to {limits[1]:.1f} %" if limits else "not computed"
        cells = [card.protocol, figure, f"{value:.1f} %", interval, dataset, number]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _selection_text(selected: dict[str, Any]) -> str:
    choices = ", ".join(
        f"{name} {_text(value)}" for name, value in selected.items() if name != "on"
    )
    split = selected.get("on", "nothing")
    if split.startswith("nothing"):
        return f"{choices}; nothing was selected"
    return f"{choices}, selected on {split}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _test_set(planned: PlannedStage[Any]) -> str:
    """The image set that the figures of a protocol are of."""
    packs = [pack.label for role, pack in planned.images.items() if role != "train"]
    return ", ".join(packs) or "unknown"
