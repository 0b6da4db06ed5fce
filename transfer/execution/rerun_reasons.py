"""Why a stage is to run: what differs from what the pipeline last made under that name."""

from __future__ import annotations

from typing import Any

from transfer.errors import CorruptArtifact
from transfer.pipeline.plan import Plan, PlannedStage
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store

SHOWN = 3
NOT_MADE = "not made yet"


def rerun_reason(
    store: Store, plan: Plan, one: PlannedStage, last: dict[str, dict[str, str]]
) -> str:
    """`k 200 -> 100`, `input features changed`, `images changed`, or that it was never made."""
    before = last.get(one.label)
    if before is None:
        return NOT_MADE
    if before["uses"] != one.uses:
        return f"{before['uses']} -> {one.uses}"
    if before["key"] == one.key:
        return "its result is gone"
    try:
        manifest = store.find(before["uses"], before["key"])
    except CorruptArtifact:
        manifest = None
    if manifest is None:
        return f"{NOT_MADE} (what came before it is gone)"
    return differences(manifest, one) or NOT_MADE


def differences(manifest: Manifest, one: PlannedStage) -> str:
    """What is not the same in the identity of a former result and in the one that is planned."""
    then, now = manifest.identity, one.identity
    found = [
        f"{name} {_show(a)} → {_show(b)}"
        for name, a, b in _changes(then["options"], now["options"])
    ]
    for name, key in now["inputs"].items():
        if then["inputs"].get(name) != key:
            found.append(f"{name} changed" if name.endswith("images") else f"input {name} changed")
    if then["version"] != now["version"]:
        found.append(f"version {then['version']} → {now['version']}")
    if then.get("seed") != now.get("seed"):
        found.append(f"seed {then.get('seed')} → {now.get('seed')}")
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _changes(then: Any, now: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(then, dict) and isinstance(now, dict):
        names = sorted({*then, *now})
        return [
            c
            for key in names
            for c in _changes(then.get(key), now.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if then == now else [(name, then, now)]


def _show(value: Any) -> str:
    return "none" if value is None else str(value)
