"""Views of a pipeline as JSON and as text: plan, status, results, one stage, graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transfer.api import Pipeline
from transfer.errors import CorruptArtifact
from transfer.execution.expectation import Expectation, expectation
from transfer.execution.rerun_reasons import images_text
from transfer.execution.status import CACHED, StageStatus
from transfer.stage.base import ImagePack, PlannedStage
from transfer.storage.manifest import Manifest
from transfer.utils.formatting import figure_texts, file_size, inline_yaml, plural

Json = dict[str, Any]
SET_FIGURES = ("left_out", "lost_classes")  # of packed images: they belong to a set


def plan_text(pipeline: Pipeline, statuses: Sequence[StageStatus]) -> str:
    """Return a line for each stage: cached, resumed (from where), or to run and why."""
    label_width = max((len(status.planned.label) for status in statuses), default=0)
    uses_width = max((len(status.planned.uses) for status in statuses), default=0)
    smoke = "smoke run of " if pipeline.plan.smoke else ""
    lines = [f"{smoke}{pipeline.plan.name}  ({pipeline.store.root})"]
    for status in statuses:
        planned, mark = status.planned, " " if status.status == CACHED else "*"
        columns = [
            f"{planned.label:<{label_width}}",
            f"{planned.uses:<{uses_width}}",
            f"{status.status:<7}",
            _reason(status.reason, planned.note, planned.smoke_limits),
        ]
        lines.append(f" {mark} {'  '.join(columns)}".rstrip())
    if not any(status.pending for status in statuses):
        lines.append("nothing to do")
    return "\n".join(lines)


def _reason(reason: str, note: str, smoke_limits: str) -> str:
    limits = smoke_limits and f"smoke: {smoke_limits}"
    return "; ".join(filter(None, [reason, note if note not in reason else "", limits]))


def status_json(pipeline: Pipeline, statuses: Sequence[StageStatus]) -> Json:
    """Return the status of each stage."""
    return {
        "pipeline": pipeline.plan.name,
        "store": str(pipeline.store.root),
        "stages": [
            {
                "stage": status.planned.label,
                "uses": status.planned.uses,
                "status": status.status,
                "reason": status.reason,
                "note": status.planned.note,
                "smoke": status.planned.smoke_limits,
                "key": status.planned.key,
                "folder": str(pipeline.store.folder(status.planned.uses, status.planned.key)),
            }
            for status in statuses
        ],
        "pending": sum(status.pending for status in statuses),
    }


def status_text(value: Json) -> str:
    """Return what `status_json` returns, as lines."""
    stages = value["stages"]
    lines = [f"{value['pipeline']}  ({value['store']})"]
    width = max(len(entry["stage"]) for entry in stages)
    for entry in stages:
        reason = _reason(entry["reason"], entry["note"], entry["smoke"])
        lines.append(f"  {entry['stage']:<{width}}  {entry['status']:<7}  {reason}".rstrip())
    pending = f"{value['pending']} of {plural(len(stages), 'stage')} pending"
    lines.append(pending if value["pending"] else "up to date")
    return "\n".join(lines)


def results_json(pipeline: Pipeline) -> list[Json]:
    """Return the figures, seconds and size of every stage that is made."""
    return [_result(pipeline, planned) for planned in pipeline.plan]


def _result(pipeline: Pipeline, planned: PlannedStage[Any]) -> Json:
    facts: Json = {"stage": planned.label, "uses": planned.uses, "made": False}
    try:
        manifest = pipeline.store.find(planned.uses, planned.key)
    except CorruptArtifact as error:
        return {**facts, "damaged": str(error)}
    if manifest is not None:
        facts |= {
            "made": True,
            "produces": manifest.produces,
            "figures": _figures(planned, manifest),
            "notes": manifest.notes,
            "seconds": manifest.seconds,
            "bytes": manifest.bytes,
            "key": manifest.key,
        }
    return facts | _expected(pipeline, planned)


def _figures(planned: PlannedStage[Any], manifest: Manifest) -> Json:
    """The figures of a stage; of packed images with those of the set as it is now."""
    stage = planned.stage
    if not isinstance(stage, ImagePack):
        return manifest.figures
    figures = {name: manifest.figures[name] for name in manifest.figures if name not in SET_FIGURES}
    return figures | stage.set_figures


def _expected(pipeline: Pipeline, planned: PlannedStage[Any]) -> Json:
    """The expected range of a main figure, the figure, and whether it is inside."""
    expected = expectation(pipeline.store, planned)
    if expected is None:
        return {}
    range_ = {"low": expected.low, "high": expected.high}
    return {"expected": {**range_, "value": expected.value, "inside": expected.inside}}


def _verdict(value: Json) -> str:
    """What `_expected` returns, in words; empty where nothing is expected."""
    if "expected" not in value:
        return ""
    facts = value["expected"]
    expected = Expectation(
        value["stage"], value["stage"], facts["low"], facts["high"], facts["value"]
    )
    return expected.verdict


def results_text(value: Sequence[Json]) -> str:
    """Return what `results_json` returns, as lines."""
    width = max(len(entry["stage"]) for entry in value)
    lines = []
    for entry in value:
        label, verdict = f"{entry['stage']:<{width}}", _verdict(entry)
        if not entry["made"]:
            state = "damaged" if "damaged" in entry else "not made yet"
            lines.append(f"{label}  {'; '.join(filter(None, [state, verdict]))}")
            continue
        figures = ", ".join(figure_texts(entry["figures"]))
        facts = f"{entry['seconds']:8.1f} s  {file_size(entry['bytes']):>9}"
        lines.append(f"{label}  {facts}  {'; '.join(filter(None, [figures, verdict]))}".rstrip())
    return "\n".join(lines)


def stage_json(pipeline: Pipeline, name: str) -> Json:
    """Return everything known of one stage."""
    planned = pipeline.stage(name)
    manifest = pipeline.store.find(planned.uses, planned.key)
    facts: Json = {
        "stage": planned.label,
        "uses": planned.uses,
        "key": planned.key,
        "identity": planned.identity,
        "made": manifest is not None,
    } | _expected(pipeline, planned)
    if manifest is not None:
        facts |= {
            "produces": manifest.produces,
            "folder": str(pipeline.store.folder(planned.uses, planned.key)),
            "figures": _figures(planned, manifest),
            "notes": manifest.notes,
            "seconds": manifest.seconds,
            "files": manifest.files,
            "inputs": manifest.inputs,
            "environment": manifest.environment,
        }
    return facts


def stage_text(value: Json) -> str:
    """Return what `stage_json` returns, as lines."""
    identity, verdict = value["identity"], _verdict(value)
    lines = [f"{value['stage']}  ({value['uses']}, key {value['key']})"]
    options, inputs = identity["options"], identity["inputs"]
    lines += [f"  {name}: {inline_yaml(option)}" for name, option in options.items()]
    lines += [f"  reads {images_text(name)}: {key}" for name, key in inputs.items()]
    if "seed" in identity:
        lines.append(f"  seed: {identity['seed']}")
    if not value["made"]:
        return "\n".join([*lines, *filter(None, [verdict]), "not made yet"])
    lines.append(f"{value['produces']} in {value['folder']}, made in {value['seconds']:.1f} s")
    lines += [
        f"  {name}  {file_size(facts['size'])}  sha256 {facts['sha256'][:12]}"
        for name, facts in value["files"].items()
    ]
    lines.append("figures")
    lines += [f"  {figure}" for figure in figure_texts(value["figures"], ": ")]
    lines += [f"  {verdict}"] if verdict else []
    lines += [f"  note: {note}" for note in value["notes"]]
    lines.append(_environment_text(value["environment"]))
    return "\n".join(lines)


def _environment_text(environment: Json) -> str:
    threads = plural(environment["threads"], "thread")
    machine = f"{environment['device']}, {environment['precision']}, {threads}"
    return f"on {machine}, commit {environment['commit'] or 'unknown'}"


def graph_json(pipeline: Pipeline) -> list[Json]:
    """Return every stage with what it reads."""
    return [
        {
            "stage": planned.label,
            "uses": planned.uses,
            "produces": planned.stage.produces.__name__,
            "reads": {name: source.label for name, source in planned.dependencies.items()},
        }
        for planned in pipeline.plan
    ]


def graph_text(value: Sequence[Json]) -> str:
    """Return a line for each stage, indented below all that it reads; `<-` names its inputs."""
    width = max(len(entry["stage"]) for entry in value)
    depth: dict[str, int] = {}
    lines = []
    for entry in value:
        label, sources = entry["stage"], dict.fromkeys(entry["reads"].values())
        depth[label] = 1 + max((depth[source] for source in sources), default=-1)
        reads = f"  <- {', '.join(sources)}" if sources else ""
        lines.append(
            f"{'  ' * depth[label]}{label:<{width}}  {entry['produces']:<12}{reads}".rstrip()
        )
    return "\n".join(lines)


def graph_mermaid(value: Sequence[Json]) -> str:
    """Return a Mermaid flowchart, which Markdown viewers draw."""
    ids = {entry["stage"]: f"s{number}" for number, entry in enumerate(value)}
    lines = ["flowchart TD"]
    for entry in value:
        text = f"{entry['stage']}<br/><small>{entry['uses']}</small>"
        lines.append(f'  {ids[entry["stage"]]}["{text}"]')
    for entry in value:
        for name, source in entry["reads"].items():
            lines.append(f"  {ids[source]} -->|{images_text(name)}| {ids[entry['stage']]}")
    return "\n".join(lines)
