"""The README of an exported model: what it is, what it learned from, how well it does, how to load it.

YAML front matter as the Hugging Face Hub reads it, then sections for people. Everything in it is taken from the store;
what is not known is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transfer.api import Pipeline
from transfer.artifacts import ModelCard, Scores
from transfer.datasets.cards import load_card
from transfer.datasets.packed.pack_stage import Pack
from transfer.errors import CorruptArtifact, UsageError
from transfer.execution.status import changed_input, find_manifest
from transfer.stage.base import PlannedStage, upstream_stages
from transfer.utils.formatting import figure_text

SCORES = ["| protocol | figure | value | 95 % interval | images | n |", "|---|---|---|---|---|---|"]
STAGES = ["| stage | method | key | version | commit | device |", "|---|---|---|---|---|---|"]


@dataclass
class ExportFacts:
    """What is said of one export beside what the store knows."""

    card: ModelCard
    values: int  # of an embedding
    layer: str
    folder: str  # its name
    files: str  # Markdown: what each is, and how it was compared


def model_card(pipeline: Pipeline, one: PlannedStage, facts: ExportFacts) -> str:
    """The whole README.md of stage `one`."""
    stages = upstream_stages(one, images=True)
    scores, missing = finished_scores(pipeline, one)
    title = f"{facts.card.backbone['name']} of {pipeline.plan.name}, {one.label}"
    sections = [
        _front_matter(title, one, facts, scores),
        f"# {title}\n\n{_what(pipeline, stages, facts)}",
        f"## Use\n\n```python\n{usage_code(facts.folder, facts.values)}\n```\n\n{_fed(facts)}",
        f"## Files\n\n{facts.files}",
        _data(pipeline, stages, scores),
        _making(pipeline, stages),
        _scores(scores, missing),
        _provenance(pipeline, stages),
    ]
    return "\n\n".join(sections) + "\n"


def usage_code(folder: str, values: int) -> str:
    """The three lines that load an export and embed a picture."""
    return (
        f"import transfer\nmodel = transfer.load_model({json.dumps(folder, ensure_ascii=False)})\n"
        f'embedding = model.embed("photo.jpg")  # {values} float32; a list of pictures gives a row each'
    )


def finished_scores(
    pipeline: Pipeline, one: PlannedStage
) -> tuple[list[tuple[PlannedStage, Scores]], list[str]]:
    """The finished Scores of the file that read this model, and the labels of those that are not made."""
    made, missing = [], []
    for other in pipeline.plan:
        if other.stage.produces is not Scores or one.key not in {
            before.key for before in other.inputs.values()
        }:
            continue
        manifest, scores = (
            find_manifest(pipeline.store, other),
            Scores(pipeline.store.folder(other.uses, other.key)),
        )
        if manifest is None:
            missing.append(other.label)
        elif changed_input(pipeline.store, other, manifest) is not None:
            missing.append(
                f"{other.label} (its scores are of what was there before something was made again)"
            )
        elif not _readable(scores):
            missing.append(f"{other.label} (its scores are damaged, or of an older format)")
        else:
            made.append((other, scores))
    return made, missing


def _readable(scores: Scores) -> bool:
    try:
        return scores.card.is_complete
    except (CorruptArtifact, KeyError, TypeError):
        return False


def _front_matter(
    title: str, one: PlannedStage, facts: ExportFacts, scores: Sequence[tuple[PlannedStage, Scores]]
) -> str:
    """YAML; values are written as JSON, which is YAML too."""
    results = []
    for other, made in scores:
        protocol, main = made.card.protocol, made.card.main
        where = _tested(other)
        metric = {
            "type": main,
            "name": f"{protocol}: {main}",
            "value": round(made.figures[main], 2),
        }
        task = {"type": "image-classification", "name": protocol}
        results.append(
            {"task": task, "dataset": {"type": where, "name": where}, "metrics": [metric]}
        )
    head: dict[str, Any] = {
        "library_name": "transfer",
        "pipeline_tag": "image-feature-extraction",
        "license": "unknown",
        "tags": ["image-feature-extraction", facts.card.backbone["name"], one.uses],
    }
    if results:
        head["model-index"] = [{"name": title, "results": results}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    return "\n".join(["---", *lines, "---"])


def _tested(one: PlannedStage) -> str:
    """The image set that a protocol's figures are of."""
    return (
        ", ".join(pack.label for role, pack in one.images.items() if role != "train") or "unknown"
    )


def _what(pipeline: Pipeline, stages: Sequence[PlannedStage], facts: ExportFacts) -> str:
    """Which network, by which steps; and what a reader must know before all else."""
    spec = facts.card.backbone
    options = ", ".join(f"{name} {_plain(value)}" for name, value in spec.items() if name != "name")
    steps = " → ".join(f"`{one.uses}`" for one in stages if not isinstance(one.stage, Pack))
    told = [
        f"{spec['name']} without a classifier ({options}), for images of {facts.card.size} px: {steps}."
    ]
    warnings = ["A smoke run: far too little training to be of use."] if pipeline.plan.smoke else []
    for one in stages:
        manifest = find_manifest(pipeline.store, one)
        changed = manifest and changed_input(pipeline.store, one, manifest)
        warnings += [one.note] if one.note else []
        warnings += (
            [f"{one.label} was made before its input {changed} was made again."] if changed else []
        )
    return "\n\n".join([*told, *(f"**{warning}**" for warning in dict.fromkeys(warnings))])


def _fed(facts: ExportFacts) -> str:
    how, size = facts.card.normalization, facts.card.size
    if how.lightness:
        fed = "all three channels are the CIE lightness (L - 50) / 25"
    elif how.per_image:
        fed = "each image has its own mean removed and is divided by its own deviation"
    else:
        fed = f"values from 0 to 1, minus the mean {list(how.mean)}, over the deviation {list(how.std)}"
    squared = (
        "its shorter side is resized and the center cut out"
        if facts.card.fit == "crop"
        else "it is squeezed"
    )
    over = ", averaged over its map" if len(facts.card.layers[facts.layer]) == 3 else ""
    return (
        f"An embedding is layer `{facts.layer}`{over}: {facts.values} values. A picture becomes "
        f"{size} x {size} px: {squared}. What follows is done by `model.embed` and by the programs below; who feeds "
        f"the bare network does it: {fed}."
    )


def _data(
    pipeline: Pipeline,
    stages: Sequence[PlannedStage],
    scores: Sequence[tuple[PlannedStage, Scores]],
) -> str:
    """Every packed set, who reads it, what its card says of license and citation."""
    readers: dict[str, tuple[PlannedStage, list[str]]] = {}
    for one in [*stages, *(other for other, _ in scores)]:
        for pack in one.images.values():
            readers.setdefault(pack.key, (pack, []))[1].append(one.label)
    lines = []
    for pack, names in readers.values():
        manifest = find_manifest(pipeline.store, pack)
        count = manifest.figures.get("images") if manifest else None
        many, who = (
            "unknown number of" if count is None else f"{count:,}",
            ", ".join(dict.fromkeys(names)),
        )
        about = f"{many} images of {pack.stage.size} px, read by {who}."
        lines.append(f"- **{pack.label}**: {about} {_rights(pipeline, pack)}")
    told = "\n".join(lines) or "No stage that made this model read images of the pipeline."
    for one in stages:
        if one.stage.starts_from_weights():
            told += f"\n- What the weights given to **{one.label}** learned from, and its license, is not known here."
    return (
        f"## Images\n\n{told}\n\nWhat the model itself may be used for is for you to say, in the light of these "
        "licenses; the `license` above stands at `unknown` until you do."
    )


def _rights(pipeline: Pipeline, pack: PlannedStage) -> str:
    name = pack.stage.spec.card
    if name is None:
        return "License: not known, for these images have no card; their owner knows."
    try:
        card, _ = load_card(name, pipeline.plan.file.resolve().parent)
    except UsageError:
        return "License: not known, for their card is gone."
    cite = f" Cite: {' '.join(card.cite.split())}" if card.cite else ""
    return f"{card.title[0].upper()}{card.title[1:]}. License: {card.license.rstrip('.')}.{cite}"


def _making(pipeline: Pipeline, stages: Sequence[PlannedStage]) -> str:
    """A part for each stage in the order in which they ran: what it is, its options, what came of it."""
    parts = ["## How it was made"]
    for one in stages:
        if isinstance(one.stage, Pack):
            continue
        about = " ".join((type(one.stage).__doc__ or "").strip().split("\n\n")[0].split())
        paper = one.stage.paper
        reads = [f"{role} from {other.label}" for role, other in one.inputs.items()]
        reads += [pack.label for pack in one.images.values()]
        options = "\n".join(
            f"| {name} | {_plain(value)} |" for name, value in one.stage.identity().items()
        )
        seed = f"\n| seed | {one.seed} |" if one.stage.seeded else ""
        manifest = find_manifest(pipeline.store, one)
        figures = manifest.figures if manifest else {}
        came = ", ".join(f"{name} {figure_text(value)}" for name, value in figures.items())
        notes = [f"- {note}" for note in (manifest.notes if manifest else [])]
        parts.append(f"### {one.label}: `{one.uses}`, {one.stage.produces.__name__}")
        told = [about, f"({paper})" if paper else "", f"Reads {', '.join(reads)}." if reads else ""]
        parts.append(" ".join(filter(None, told)))
        parts.append(
            f"| option | value |\n|---|---|\n{options}{seed}" if options or seed else "No options."
        )
        parts += [f"Came out: {came}."] if came else []
        parts += ["\n".join(notes)] if notes else []
        parts += [] if manifest else ["Its own result is no longer in the store."]
    return "\n\n".join(parts)


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split()).replace("|", "\\|")


def _scores(scores: Sequence[tuple[PlannedStage, Scores]], missing: Sequence[str]) -> str:
    rows, notes = [], []
    for one, made in scores:
        card, where = made.card, _tested(one)
        count = Scores.tested(card.counts) or "unknown"
        for name, value in card.figures.items():
            span = card.intervals.get(name)
            interval = f"{span[0]:.2f} to {span[1]:.2f}" if span else "not computed"
            main = f"**{name}**" if name == card.main else name
            rows.append(
                f"| {card.protocol} | {main} | {value:.2f} | {interval} | {where} | {count} |"
            )
        if card.selected:
            chosen = ", ".join(
                f"{name} {_plain(value)}"
                for name, value in card.selected.items()
                if name != "on"
            )
            on = card.selected.get("on", "nothing")
            how = (
                f"{chosen}; nothing was selected"
                if on.startswith("nothing")
                else f"selected {chosen}, on {on}"
            )
            notes.append(f"{card.protocol}: {how}.")
    if missing:
        notes.append(f"Not measured yet, though the pipeline asks for it: {', '.join(missing)}.")
    if not rows and not missing:
        notes.append(
            "None: no stage of the pipeline file scores this model. How good it is, is not known."
        )
    told = "In percent, of one seed; the intervals are over test images and know nothing of other seeds."
    return "\n\n".join(
        ["## Scores", *([told, "\n".join([*SCORES, *rows])] if rows else []), *notes]
    )


def _provenance(pipeline: Pipeline, stages: Sequence[PlannedStage]) -> str:
    rows = []
    for one in stages:
        manifest = find_manifest(pipeline.store, one)
        where: dict[str, Any] = manifest.environment if manifest else {}
        commit, device = where.get("commit") or "unknown", where.get("device", "unknown")
        rows.append(
            f"| {one.label} | `{one.uses}` | `{one.key}` | {one.stage.version} | {commit} | {device} |"
        )
    manifest = find_manifest(pipeline.store, stages[-1])
    versions = manifest.environment.get("versions", {}) if manifest else {}
    told = ", ".join(f"{name} {value}" for name, value in versions.items()) or "unknown"
    about = f"Pipeline `{pipeline.plan.file.name}`. A key stands for a stage's options, inputs, seed and images."
    table = "\n".join([*STAGES, *rows])
    return f"## Provenance\n\n{about}\n\n{table}\n\nVersions when it was made: {told}."
