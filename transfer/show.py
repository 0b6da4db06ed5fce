"""What a person or a script sees of a pipeline: plan, status, results, one stage, the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transfer.api import Pipeline
from transfer.errors import Damaged
from transfer.expected import Expectation, expectation
from transfer.manifest import numbers
from transfer.plan import Planned
from transfer.states import CACHED, State


def plan_text(pipeline: Pipeline, states: Sequence[State]) -> str:
    """A line a stage: cached, resumed (from where), or to run and why."""
    width = max((len(state.planned.label) for state in states), default=0)
    uses = max((len(state.planned.uses) for state in states), default=0)
    lines = [f"{'smoke run of ' if pipeline.plan.smoke else ''}{pipeline.plan.name}  ({pipeline.store.root})"]
    for state in states:
        one = state.planned
        mark = " " if state.status == CACHED else "*"
        why = _why(state.reason, one.note)
        lines.append(f" {mark} {one.label:<{width}}  {one.uses:<{uses}}  {state.status:<7}  {why}".rstrip())
    if not any(state.pending for state in states):
        lines.append("nothing to do")
    return "\n".join(lines)


def _why(reason: str, note: str) -> str:
    return "; ".join(filter(None, [reason, note if note not in reason else ""]))


def status(pipeline: Pipeline, states: Sequence[State]) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "pipeline": pipeline.plan.name,
        "store": str(pipeline.store.root),
        "stages": [_state(pipeline, state) for state in states],
        "pending": sum(state.pending for state in states),
    }


def _state(pipeline: Pipeline, state: State) -> dict[str, Any]:
    one = state.planned
    return {
        "stage": one.label, "uses": one.uses, "status": state.status, "reason": state.reason, "note": one.note,
        "key": one.key, "folder": str(pipeline.store.folder(one.uses, one.key)),
    }  # fmt: skip


def status_text(found: dict[str, Any]) -> str:
    lines = [f"{found['pipeline']}  ({found['store']})"]
    width = max(len(stage["stage"]) for stage in found["stages"])
    for one in found["stages"]:
        why = _why(one["reason"], one["note"])
        lines.append(f"  {one['stage']:<{width}}  {one['status']:<7}  {why}".rstrip())
    lines.append(f"{found['pending']} of {len(found['stages'])} stages pending" if found["pending"] else "up to date")
    return "\n".join(lines)


def results(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Every stage with its figures, seconds and size, as far as it is made."""
    return [_result(pipeline, one) for one in pipeline.plan]


def _result(pipeline: Pipeline, one: Planned) -> dict[str, Any]:
    try:
        manifest = pipeline.store.find(one.uses, one.key)
    except Damaged as error:
        return {"stage": one.label, "uses": one.uses, "made": False, "damaged": str(error)}
    if manifest is None:
        return {"stage": one.label, "uses": one.uses, "made": False} | _expected(pipeline, one)
    return {
        "stage": one.label, "uses": one.uses, "made": True, "produces": manifest.produces, "figures": manifest.figures,
        "seconds": manifest.seconds, "bytes": manifest.bytes, "key": manifest.key,
    } | _expected(pipeline, one)  # fmt: skip


def _expected(pipeline: Pipeline, one: Planned) -> dict[str, Any]:
    """The range that the file expects of a main figure, and whether the figure is inside."""
    found = expectation(pipeline.store, one)
    facts = ("low", "high", "value", "inside")
    return {} if found is None else {"expected": {name: getattr(found, name) for name in facts}}


def _verdict(found: dict[str, Any]) -> str:
    """The same in words; empty where nothing is expected."""
    if "expected" not in found:
        return ""
    low, high, value = (found["expected"][name] for name in ("low", "high", "value"))
    return Expectation(found["stage"], found["stage"], low, high, value).verdict


def results_text(found: list[dict[str, Any]]) -> str:
    width = max(len(one["stage"]) for one in found)
    lines = []
    for one in found:
        if not one["made"]:
            state = "damaged" if "damaged" in one else "not made yet"
            told = "; ".join(filter(None, [state, _verdict(one)]))
            lines.append(f"{one['stage']:<{width}}  {told}")
            continue
        figures = "; ".join(filter(None, [", ".join(numbers(one["figures"])), _verdict(one)]))
        lines.append(f"{one['stage']:<{width}}  {one['seconds']:8.1f} s  {size(one['bytes']):>9}  {figures}")
    return "\n".join(lines)


def stage(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """All that is known of one stage."""
    one = pipeline.one(name)
    manifest = pipeline.store.find(one.uses, one.key)
    facts = {"stage": one.label, "uses": one.uses, "key": one.key, "identity": one.identity}
    facts |= _expected(pipeline, one)
    if manifest is None:
        return {**facts, "made": False}
    return {
        **facts, "made": True, "produces": manifest.produces, "folder": str(pipeline.store.folder(one.uses, one.key)),
        "figures": manifest.figures, "seconds": manifest.seconds, "files": manifest.files, "inputs": manifest.inputs,
        "environment": manifest.environment,
    }  # fmt: skip


def stage_text(found: dict[str, Any]) -> str:
    lines = [f"{found['stage']}  ({found['uses']}, key {found['key']})"]
    lines += [f"  {name}: {value}" for name, value in found["identity"]["options"].items()]
    lines += [f"  reads {name}: {key}" for name, key in found["identity"]["inputs"].items()]
    if "seed" in found["identity"]:
        lines.append(f"  seed: {found['identity']['seed']}")
    if not found["made"]:
        return "\n".join([*lines, *filter(None, [_verdict(found)]), "not made yet"])
    lines.append(f"{found['produces']} in {found['folder']}, made in {found['seconds']:.1f} s")
    lines += [
        f"  {name}  {size(facts['size'])}  sha256 {facts['sha256'][:12]}" for name, facts in found["files"].items()
    ]
    lines.append("figures")
    lines += [f"  {figure}" for figure in numbers(found["figures"], ": ")]
    lines += [f"  {verdict}" for verdict in filter(None, [_verdict(found)])]
    lines += [f"  note: {note}" for note in found["figures"].get("notes", [])]
    where = found["environment"]
    machine = f"{where['device']}, {where['precision']}, {where['threads']} threads"
    lines.append(f"on {machine}, commit {where['commit'] or 'unknown'}")
    return "\n".join(lines)


def graph(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Every stage with what it reads."""
    return [
        {"stage": one.label, "uses": one.uses, "produces": one.stage.produces.__name__,
         "reads": {name: other.label for name, other in one.before.items()}}
        for one in pipeline.plan
    ]  # fmt: skip


def ascii_graph(found: list[dict[str, Any]]) -> str:
    """A line a stage, each below all that it reads; `<-` says what that is."""
    width = max(len(one["stage"]) for one in found)
    depth: dict[str, int] = {}
    lines = []
    for one in found:
        depth[one["stage"]] = 1 + max((depth[name] for name in one["reads"].values()), default=-1)
        reads = ", ".join(dict.fromkeys(one["reads"].values()))
        indent = "  " * depth[one["stage"]]
        lines.append(f"{indent}{one['stage']:<{width}}  {one['produces']:<12}" + (f"  <- {reads}" if reads else ""))
    return "\n".join(line.rstrip() for line in lines)


def mermaid(found: list[dict[str, Any]]) -> str:
    """A flowchart that Markdown viewers draw."""
    number_of = {one["stage"]: f"s{i}" for i, one in enumerate(found)}
    lines = ["flowchart TD"]
    lines += [f'  {number_of[one["stage"]]}["{one["stage"]}<br/><small>{one["uses"]}</small>"]' for one in found]
    for one in found:
        for name, other in one["reads"].items():
            lines.append(f"  {number_of[other]} -->|{name}| {number_of[one['stage']]}")
    return "\n".join(lines)


def size(count: int) -> str:
    """Bytes as a person reads them."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
