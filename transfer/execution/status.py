"""How each stage of a plan stands: cached, resumed or to run, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transfer.artifacts import read_json
from transfer.errors import CorruptArtifact
from transfer.execution.rerun_reasons import rerun_reason
from transfer.pipeline.plan import Plan, PlannedStage
from transfer.stage.registry import source_digest
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store

CACHED, RESUME, RUN = "cached", "resumed", "to run"


@dataclass(frozen=True)
class StageStatus:
    """How a planned stage stands, and the reason."""

    planned: PlannedStage
    status: str
    reason: str = ""

    @property
    def pending(self) -> bool:
        return self.status != CACHED


def stage_statuses(
    plan: Plan, store: Store, forced: Iterable[PlannedStage] = ()
) -> list[StageStatus]:
    """How each stage stands now, in the plan's order."""
    forced, found, last = set(forced), {}, store.last_run(plan.name)
    for one in plan:
        found[one.key] = _state(plan, store, one, one in forced, found, last)
    return [found[one.key] for one in plan]


def changed_input(store: Store, one: PlannedStage, manifest: Manifest) -> str | None:
    """The name of an input of a finished stage whose bytes are no longer those that were read."""
    for name, other in one.dependencies.items():
        now = find_manifest(store, other)  # damage is told, and mended, when something reads it
        if (
            now is not None
            and name in manifest.inputs
            and manifest.inputs[name]["digest"] != now.digest
        ):
            return name
    return None


def find_manifest(store: Store, one: PlannedStage) -> Manifest | None:
    """The manifest of what a stage made; None where there is none that can be trusted."""
    try:
        return store.find(one.uses, one.key)
    except CorruptArtifact:
        return None


def _state(
    plan: Plan,
    store: Store,
    one: PlannedStage,
    forced: bool,
    before: dict[str, StageStatus],
    last: dict[str, Any],
) -> StageStatus:
    try:
        manifest = store.find(one.uses, one.key)
    except CorruptArtifact as error:
        return StageStatus(one, RUN, f"damaged: {error}")
    if forced:
        return StageStatus(one, RUN, "forced")
    if manifest is None:
        said = _checkpoint(store, one)
        return (
            StageStatus(one, RESUME, f"from {said}")
            if said
            else StageStatus(one, RUN, rerun_reason(store, plan, one, last))
        )
    if (changed := changed_input(store, one, manifest)) is not None:
        return StageStatus(one, RUN, f"input {changed} was made again with other bytes")
    if any(before[other.key].pending for other in one.dependencies.values()):
        return StageStatus(one, CACHED, "unless what it reads comes out different")
    notes = [one.note] if one.note else []
    if manifest.source and manifest.source != source_digest(type(one.stage)):
        notes.append(f"its source has changed since, under the same version {one.stage.version}")
    return StageStatus(one, CACHED, "; ".join(notes))


def _checkpoint(store: Store, one: PlannedStage) -> str:
    """How far an interrupted run of the stage came, in words; empty where there was none."""
    try:
        return str(read_json(store.checkpoints(one.key) / "progress.json").get("said", ""))
    except (CorruptArtifact, AttributeError):
        return ""
