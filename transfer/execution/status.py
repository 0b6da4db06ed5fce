"""The status of each stage of a plan, cached, resumed or to run, and the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transfer.artifacts import read_json
from transfer.errors import CorruptArtifact
from transfer.execution.rerun_reasons import rerun_reason
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage
from transfer.stage.registry import source_digest
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store

CACHED, RESUME, RUN = "cached", "resumed", "to run"


@dataclass(frozen=True)
class StageStatus:
    """The status of a planned stage, and the reason."""

    planned: PlannedStage[Any]
    status: str
    reason: str = ""
    damaged: bool = False  # its artifact is there, but not what was written

    @property
    def pending(self) -> bool:
        return self.status != CACHED


def stage_statuses(
    plan: Plan, store: Store, forced: Iterable[PlannedStage[Any]] = (), restart: bool = False
) -> list[StageStatus]:
    """Return the status of each stage, in the plan's order.

    Args:
        plan: the stages.
        store: where their artifacts are.
        forced: the stages that run again.
        restart: checkpoints are discarded.
    """
    forced, statuses = set(forced), {}
    last = store.last_run(plan.name)
    for planned in plan:
        statuses[planned.key] = _status(store, planned, planned in forced, restart, statuses, last)
    return [statuses[planned.key] for planned in plan]


def changed_input(store: Store, planned: PlannedStage[Any], manifest: Manifest) -> str | None:
    """Return the name of an input whose bytes are no longer those that a finished stage read."""
    for name, source in planned.dependencies.items():
        present = find_manifest(store, source)  # damage is reported where something reads it
        recorded = manifest.inputs.get(name)
        if present is not None and recorded and recorded["digest"] != present.digest:
            return name
    return None


def find_manifest(store: Store, planned: PlannedStage[Any]) -> Manifest | None:
    """Return the manifest of a stage's artifact; None where it is missing or damaged."""
    try:
        return store.find(planned.uses, planned.key)
    except CorruptArtifact:
        return None


def _status(
    store: Store,
    planned: PlannedStage[Any],
    forced: bool,
    restart: bool,
    earlier: dict[str, StageStatus],
    last: dict[str, dict[str, str]],
) -> StageStatus:
    try:
        manifest = store.find(planned.uses, planned.key)
    except CorruptArtifact as error:
        return StageStatus(planned, RUN, f"damaged: {error}", damaged=True)
    progress = _checkpoint_progress(store, planned) if forced or manifest is None else ""
    if progress and not restart:
        return StageStatus(planned, RESUME, f"from {progress}")
    if forced:
        return StageStatus(planned, RUN, "forced")
    if manifest is None and progress:
        return StageStatus(planned, RUN, "restarted; its checkpoint is discarded")
    if manifest is None:
        return StageStatus(planned, RUN, rerun_reason(store, planned, last))
    if (changed := changed_input(store, planned, manifest)) is not None:
        return StageStatus(planned, RUN, f"input {changed} was made again with other bytes")
    if any(earlier[source.key].pending for source in planned.dependencies.values()):
        return StageStatus(planned, CACHED, "unless an input changes")
    notes = [planned.note] if planned.note else []
    if manifest.source and manifest.source != source_digest(type(planned.stage)):
        version = planned.stage.version
        notes.append(f"its code has changed since, under the same version {version}")
    return StageStatus(planned, CACHED, "; ".join(notes))


def _checkpoint_progress(store: Store, planned: PlannedStage[Any]) -> str:
    """How far an interrupted run of the stage came; empty without a checkpoint."""
    try:
        progress = read_json(store.checkpoints(planned.key) / "progress.json")
        return str(progress.get("progress", ""))
    except (CorruptArtifact, AttributeError):
        return ""
