"""The stages behind an exported model: their data, options, results and versions, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from transfer.api import Pipeline
from transfer.artifacts import Model, ModelCard
from transfer.datasets.cards import load_card
from transfer.datasets.packed.pack_stage import Pack
from transfer.errors import UsageError
from transfer.execution.status import changed_input, find_manifest
from transfer.stage.base import PlannedPack, PlannedStage
from transfer.utils.formatting import figure_text, plural

HEADER = ["| stage | method | key | version | commit | device |", "|---|---|---|---|---|---|"]
# Figures that count something -> the noun; other figures are shown with their name.
COUNTED = {
    "anchors": "anchor",
    "dimensions": "dimension",
    "empty": "empty cluster",
    "epoch": "epoch",
    "images": "image",
    "iterations": "iteration",
    "labels": "label",
    "parameters": "parameter",
    "splits": "split",
    "unused": "unused cluster",
}
SHARES = ("accuracy", "variance kept", "variance explained")  # from 0 to 1, shown in percent


def summary(pipeline: Pipeline, stages: Sequence[PlannedStage[Any]], card: ModelCard) -> str:
    """Describe the network, its teacher and its pipeline; warn of smoke runs and stale inputs.

    Args:
        pipeline: with its store.
        stages: the model's, in topological order.
        card: the model's `model.json`.
    """
    spec, model = card.backbone, stages[-1]
    options = ", ".join(f"{name} {cell(value)}" for name, value in spec.items() if name != "name")
    network = f"{spec['name']} ({options})" if options else spec["name"]
    about = f"Backbone {network} without a classifier, for images of {card.size} px."
    if teachers := _teachers(model):
        names = " and ".join(_teacher_text(teacher) for teacher in teachers)
        noun = "teacher" if len(teachers) == 1 else "teachers"
        about += f" It is a student, trained by distillation from the {noun} {names}."
    methods = " → ".join(f"`{planned.uses}`" for planned in stages if not planned.is_pack)
    steps = f"Pipeline of stage `{model.label}`: {methods}."
    warnings = []
    if pipeline.plan.smoke:
        warnings.append("A smoke run: trained far too little to be useful.")
    for planned in stages:
        if planned.note:
            warnings.append(planned.note)
        manifest = find_manifest(pipeline.store, planned)
        if manifest and (changed := changed_input(pipeline.store, planned, manifest)):
            warnings.append(
                f"{planned.label} is out of date: its input `{changed}` was rebuilt since."
            )
    bold = [f"**{warning}**" for warning in dict.fromkeys(warnings)]
    return "\n\n".join([about, steps, *bold])


def _teachers(student: PlannedStage[Any]) -> list[PlannedStage[Any]]:
    """The nearest Models upstream, from whose features or clusters a student learned."""
    teachers: dict[str, PlannedStage[Any]] = {}
    for source in student.inputs.values():
        nearest = [source] if source.stage.produces is Model else _teachers(source)
        teachers |= {teacher.key: teacher for teacher in nearest}
    return list(teachers.values())


def _teacher_text(teacher: PlannedStage[Any]) -> str:
    backbone = teacher.stage.backbone_spec()
    network = f", {backbone.name}" if backbone is not None else ""
    return f"`{teacher.label}` (`{teacher.uses}`{network})"


def data_section(
    pipeline: Pipeline,
    stages: Sequence[PlannedStage[Any]],
    evaluations: Sequence[PlannedStage[Any]],
) -> str:
    """List every image set with its users, license and citation.

    Args:
        pipeline: with its store.
        stages: the model's.
        evaluations: the stages that scored the model.
    """
    packs: dict[str, PlannedPack] = {}
    users: dict[str, list[str]] = {}
    for planned in [*stages, *evaluations]:
        for pack in planned.images.values():
            packs[pack.key] = pack
            users.setdefault(pack.key, []).append(planned.label)
    lines = []
    for key, pack in packs.items():
        manifest = find_manifest(pipeline.store, pack)
        count = manifest.figures.get("images") if manifest else None
        images = "an unknown number of images" if count is None else plural(count, "image")
        used_by = ", ".join(dict.fromkeys(users[key]))
        lines.append(
            f"- **{pack.label}**: {images} of {pack.stage.size} px, used by {used_by}. "
            f"{_license_text(pipeline, pack)}"
        )
    if not lines:
        lines.append("The stages of this model read no images of the pipeline.")
    for planned in stages:
        if planned.stage.starts_from_weights():
            lines.append(
                f"- The training data and the license of the weights of **{planned.label}** are "
                "unknown."
            )
    return (
        "## Data\n\n" + "\n".join(lines) + "\n\nThe license of the model is for you to choose, "
        "given these licenses; until then the `license` field above is `unknown`."
    )


def _license_text(pipeline: Pipeline, pack: PlannedPack) -> str:
    name = pack.stage.spec.card if isinstance(pack.stage, Pack) else None
    if name is None:
        return "License: unknown, because the images have no card."
    try:
        card, _ = load_card(name, pipeline.plan.file.resolve().parent)
    except UsageError:
        return "License: unknown, because the card is missing."
    cite = f" Cite: {' '.join(card.cite.split())}" if card.cite else ""
    title = card.title[0].upper() + card.title[1:]
    return f"{title}. License: {card.license.rstrip('.')}.{cite}"


def training_section(pipeline: Pipeline, stages: Sequence[PlannedStage[Any]]) -> str:
    """Describe each stage in the order in which they ran: method, inputs, options and results."""
    planned_stages = [planned for planned in stages if not planned.is_pack]
    parts = ["## How it was made"]
    for number, planned in enumerate(planned_stages, 1):
        parts += _stage_parts(pipeline, planned, number)
    return "\n\n".join(parts)


def _stage_parts(pipeline: Pipeline, planned: PlannedStage[Any], number: int) -> list[str]:
    stage = planned.stage
    about = " ".join((type(stage).__doc__ or "").strip().split("\n\n")[0].split())
    inputs = [f"{role} from `{source.label}`" for role, source in planned.inputs.items()]
    inputs += [f"images from {pack.label}" for pack in planned.images.values()]
    sentences = [about, f"({stage.paper})" if stage.paper else ""]
    sentences.append(f"Input: {', '.join(inputs)}." if inputs else "")
    sentences.append(f"Output: {stage.produces.__name__}.")
    options = [f"| {name} | {cell(value)} |" for name, value in stage.identity().items()]
    if stage.seeded:
        options.append(f"| seed | {planned.seed} |")
    table = "\n".join(["| option | value |", "|---|---|", *options]) if options else "No options."
    parts = [f"### {number}. {planned.label}: `{planned.uses}`"]
    parts += [" ".join(filter(None, sentences)), table]
    manifest = find_manifest(pipeline.store, planned)
    if manifest is None:
        return [*parts, "The result of this stage is no longer in the store."]
    if manifest.figures:
        parts.append(f"Result: {result_text(manifest.figures)}.")
    if manifest.notes:
        parts.append("\n".join(f"- {note}" for note in manifest.notes))
    return parts


def result_text(figures: dict[str, Any]) -> str:
    """Format figures: `3,371,008 parameters`, `accuracy 71.3 %`, `loss 1.644`."""
    return ", ".join(_figure(name, value) for name, value in figures.items())


def _figure(name: str, value: Any) -> str:
    if name in COUNTED and isinstance(value, int):
        return plural(value, COUNTED[name])
    if name == "images/s":
        return f"{value:,} images/s"
    if isinstance(value, float) and name.endswith(SHARES):
        return f"{name} {100 * value:.1f} %"
    return f"{name} {f'{value:,}' if isinstance(value, int) else figure_text(value)}"


def cell(value: Any) -> str:
    """Format the value of an option for a cell of a table, in one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split()).replace("|", "\\|")


def provenance_section(pipeline: Pipeline, stages: Sequence[PlannedStage[Any]]) -> str:
    """List the key, version, commit and device of each stage, and the versions of libraries."""
    rows = []
    for planned in stages:
        manifest = find_manifest(pipeline.store, planned)
        environment: dict[str, Any] = manifest.environment if manifest else {}
        commit = environment.get("commit") or "unknown"
        device = environment.get("device", "unknown")
        method, key = f"`{planned.uses}`", f"`{planned.key}`"
        cells = [planned.label, method, key, str(planned.stage.version), commit, device]
        rows.append(f"| {' | '.join(cells)} |")
    manifest = find_manifest(pipeline.store, stages[-1])
    versions = manifest.environment.get("versions", {}) if manifest else {}
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items()) or "unknown"
    about = (
        f"Pipeline file: `{pipeline.plan.file.name}`. A key identifies the options, inputs, images "
        "and seed of a stage."
    )
    table = "\n".join([*HEADER, *rows])
    return f"## Provenance\n\n{about}\n\n{table}\n\nLibraries that made the model: {libraries}."
