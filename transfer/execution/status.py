"""How each stage of a plan stands: cached, resumed or to run, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transfer.artifacts import read_json
from transfer.errors import Damaged
from transfer.execution.rerun_reasons import because
from transfer.pipeline.plan import Plan, Planned
from transfer.stage.registry import source_digest
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store

CACHED, RESUME, RUN = "cached", "resumed", "to run"


@dataclass(frozen=True)
class State:
    """How a planned stage stands, and the reason."""

    planned: Planned
    status: str
    reason: str = ""

    @property
    def pending(self) -> bool:
        return self.status != CACHED


def states(plan: Plan, store: Store, forced: Iterable[Planned] = ()) -> list[State]:
    """How each stage stands now, in the plan's order."""
    forced, found, last = set(forced), {}, store.last(plan.name)
    for one in plan:
        found[one.key] = _state(plan, store, one, one in forced, found, last)
    return [found[one.key] for one in plan]


def stale(store: Store, one: Planned, manifest: Manifest) -> str | None:
    """The name of an input of a finished stage whose bytes are no longer those that were read."""
    for name, other in one.before.items():
        now = find(store, other)  # damage is told, and mended, when something reads it
        if (
            now is not None
            and name in manifest.inputs
            and manifest.inputs[name]["digest"] != now.digest
        ):
            return name
    return None


def find(store: Store, one: Planned) -> Manifest | None:
    """The manifest of what a stage made; None where there is none that can be trusted."""
    try:
        return store.find(one.uses, one.key)
    except Damaged:
        return None


def _state(
    plan: Plan,
    store: Store,
    one: Planned,
    forced: bool,
    before: dict[str, State],
    last: dict[str, Any],
) -> State:
    try:
        manifest = store.find(one.uses, one.key)
    except Damaged as error:
        return State(one, RUN, f"damaged: {error}")
    if forced:
        return State(one, RUN, "forced")
    if manifest is None:
        said = _checkpoint(store, one)
        return (
            State(one, RESUME, f"from {said}")
            if said
            else State(one, RUN, because(store, plan, one, last))
        )
    if (changed := stale(store, one, manifest)) is not None:
        return State(one, RUN, f"input {changed} was made again with other bytes")
    if any(before[other.key].pending for other in one.before.values()):
        return State(one, CACHED, "unless what it reads comes out different")
    notes = [one.note] if one.note else []
    if manifest.source and manifest.source != source_digest(type(one.stage)):
        notes.append(f"its source has changed since, under the same version {one.stage.version}")
    return State(one, CACHED, "; ".join(notes))


def _checkpoint(store: Store, one: Planned) -> str:
    """How far an interrupted run of the stage came, in words; empty where there was none."""
    try:
        return str(read_json(store.checkpoints(one.key) / "progress.json").get("said", ""))
    except (Damaged, AttributeError):
        return ""
