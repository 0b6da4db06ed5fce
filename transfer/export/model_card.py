"""The model card (README.md) of an exported model: use, files, data, training, scores.

It has YAML front matter for the Hugging Face Hub, and Markdown sections. All facts come from the
store; those that the store lacks are reported as unknown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from transfer.api import Pipeline
from transfer.artifacts import ModelCard
from transfer.export.card_scores import ModelScores, find_scores, hub_results, scores_section
from transfer.export.card_stages import (
    data_section,
    provenance_section,
    summary,
    training_section,
)
from transfer.stage.base import PlannedStage
from transfer.stage.upstream import upstream_stages
from transfer.utils.formatting import plural


@dataclass
class ExportFacts:
    """Facts of an export that the store does not know."""

    card: ModelCard
    values: int  # of an embedding
    layer: str  # of the embeddings
    folder: str  # name of the folder
    files: str  # Markdown: the contents of each file, and how they were compared


def model_card(pipeline: Pipeline, planned: PlannedStage[Any], facts: ExportFacts) -> str:
    """Write the model card of a stage.

    Args:
        pipeline: with its store.
        planned: the stage of the model.
        facts: of the export.
    """
    stages = upstream_stages(planned, images=True)
    scores = find_scores(pipeline, planned)
    evaluations = [stage for stage, _ in scores.finished]
    title = f"{facts.card.backbone['name']} ({pipeline.plan.name}: {planned.label})"
    sections = [
        _front_matter(title, planned, facts, scores),
        f"# {title}",
        summary(pipeline, stages, facts.card),
        f"## Use\n\n```python\n{usage_code(facts.folder, facts.values)}\n```",
        _input_steps(facts),
        f"## Files\n\n{facts.files}",
        scores_section(scores),
        data_section(pipeline, stages, evaluations),
        training_section(pipeline, stages),
        provenance_section(pipeline, stages),
    ]
    return "\n\n".join(sections) + "\n"


def usage_code(folder: str, values: int) -> str:
    """The three lines of Python that load an export and embed an image."""
    return (
        "import transfer\n"
        f"model = transfer.load_model({json.dumps(folder, ensure_ascii=False)})\n"
        f'embedding = model.embed("photo.jpg")  # ({values},) float32; (N, {values}) for N images'
    )


def _front_matter(
    title: str, planned: PlannedStage[Any], facts: ExportFacts, scores: ModelScores
) -> str:
    """YAML for the Hub; values are written as JSON, which is YAML too."""
    head: dict[str, Any] = {
        "library_name": "transfer",
        "pipeline_tag": "image-feature-extraction",
        "license": "unknown",
        "tags": ["image-feature-extraction", facts.card.backbone["name"], planned.uses],
    }
    if results := hub_results(scores):
        head["model-index"] = [{"name": title, "results": results}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    return "\n".join(["---", *lines, "---"])


def _input_steps(facts: ExportFacts) -> str:
    """The steps from an image to an embedding, and which file does which."""
    normalization, size = facts.card.normalization, facts.card.size
    if facts.card.fit == "crop":
        resize = f"Resize the shorter side to {size} px, and cut out the center square."
    else:
        resize = f"Resize to {size} x {size} px, without keeping the proportions."
    if facts.card.value_range is not None:
        low, high = facts.card.value_range
        resize = (
            f"Of images of more than 8 bits, scale the values {low:g} to {high:g} to 0 to 255. "
            + resize
        )
    if normalization.lightness:
        normalize = "Replace all three channels by (L - 50) / 25, where L is the CIE lightness."
    elif normalization.per_image:
        normalize = "Subtract each image's own mean, and divide by its own standard deviation."
    else:
        mean, std = list(normalization.mean), list(normalization.std)
        normalize = f"Scale to 0 to 1, subtract the mean {mean}, and divide by the deviation {std}."
    values, layer = plural(facts.values, "value"), f"layer `{facts.layer}`"
    is_map = len(facts.card.layers[facts.layer]) == 3
    embedding = f"average {layer} over its map" if is_map else f"take {layer}"
    return "\n".join(
        [
            "From an image to its embedding:",
            "",
            f"1. {resize}",
            f"2. {normalize}",
            f"3. Run the network, and {embedding}: {values}.",
            "",
            "`model.embed` does all steps. A `.pt2` or `.onnx` program does steps 2 and 3. The "
            "state dict is the network alone: do steps 1 and 2 before it.",
        ]
    )
