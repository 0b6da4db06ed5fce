"""Why a stage will run: how it differs from what the pipeline last made under its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from transfer.errors import CorruptArtifact
from transfer.stage.base import ImagePack, PlannedStage, images_input
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store

SHOWN = 3  # differences in a line
NOT_MADE = "not made yet"


class RerunCause(Enum):
    """The kind of reason for which a stage runs."""

    NOT_MADE = "the pipeline made nothing under this name yet"
    FORMER_MISSING = "the former result is missing"
    RESULT_MISSING = "the result of the same settings is missing"
    CHANGED = "the settings or the inputs changed"


@dataclass(frozen=True)
class RerunReason:
    """Why a stage runs: the kind of reason, and its text."""

    cause: RerunCause
    text: str


def rerun_reason(
    store: Store, planned: PlannedStage[Any], last: Mapping[str, Mapping[str, str]]
) -> str:
    """Return `k 200 → 100`, `input features changed`, `images changed`, or that it was never made.

    Args:
        store: where the former artifact may be.
        planned: the stage that is to run.
        last: stage label -> `uses` and key of what the pipeline last made.
    """
    return explain_rerun(store, planned, last).text


def explain_rerun(
    store: Store, planned: PlannedStage[Any], last: Mapping[str, Mapping[str, str]]
) -> RerunReason:
    """The text of `rerun_reason` with its cause; the arguments are the same."""
    former = last.get(planned.label)
    if former is None:
        return RerunReason(RerunCause.NOT_MADE, NOT_MADE)
    if former["uses"] != planned.uses:
        return RerunReason(RerunCause.CHANGED, f"{former['uses']} → {planned.uses}")
    if former["key"] == planned.key:
        return RerunReason(RerunCause.RESULT_MISSING, "its result is missing")
    try:
        manifest = store.find(former["uses"], former["key"])
    except CorruptArtifact:
        manifest = None
    if manifest is None:
        text = f"{NOT_MADE} (its former result is missing)"
        return RerunReason(RerunCause.FORMER_MISSING, text)
    if changes := differences(manifest, planned):
        return RerunReason(RerunCause.CHANGED, changes)
    return RerunReason(RerunCause.NOT_MADE, NOT_MADE)


def differences(manifest: Manifest, planned: PlannedStage[Any]) -> str:
    """Describe how the identity of a planned stage differs from that of a former result."""
    then, now = manifest.identity, planned.identity
    texts = [
        planned.stage.changed_images(before)
        if name == "fingerprint" and isinstance(planned.stage, ImagePack)
        else f"{name} {_text(before)} → {_text(after)}"
        for name, before, after in _changes(then["options"], now["options"])
    ]
    packs = {images_input(role) for role in planned.images}
    for name, key in now["inputs"].items():
        if then["inputs"].get(name) != key:
            texts.append(
                f"{images_text(name)} changed" if name in packs else f"input {name} changed"
            )
    if then["version"] != now["version"]:
        texts.append(f"version {then['version']} → {now['version']}")
    if then.get("seed") != now.get("seed"):
        texts.append(f"seed {then.get('seed')} → {now.get('seed')}")
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


def _changes(then: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each value that differs, with its dotted name."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted({*then, *now}):
            yield from _changes(then.get(key), now.get(key), f"{name}.{key}".strip("."))
    elif then != now:
        yield name, then, now


def images_text(name: str) -> str:
    """The name of an input for the user: `images` where a stage reads the images of one role."""
    return "images" if name == images_input("images") else name


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
