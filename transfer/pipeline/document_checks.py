"""Checks of a document as a whole: its keys, the names in it, and the expected ranges of scores."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from transfer.artifacts import Scores
from transfer.errors import UsageError, did_you_mean
from transfer.pipeline.document_nodes import FAULTY, Faults, Node
from transfer.pipeline.plan import PipelineHeader
from transfer.stage.base import Stage
from transfer.storage.manifest import KEY

PIPELINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # no '.', which separates steps of --set


def check_keys(root: Node, stages: Node, faults: Faults) -> None:
    """Report unknown keys, `stages` that is no mapping, and invalid names.

    Args:
        root: the document.
        stages: the value of its `stages`.
        faults: where the faults go.
    """
    known = [*PipelineHeader.model_fields, "matrix", "stages"]
    for key, mark in root.keys.items():
        if key not in known:
            faults.add(mark, key, f"unknown key{did_you_mean(key, known)}")
    is_mapping = isinstance(stages.value, dict)
    if stages.value is not FAULTY and (not is_mapping or not stages.value):
        problem = "must be a mapping of at least one stage"
        faults.add(root.mark_at(("stages",)), "stages", problem)
    for name, mark in stages.keys.items():
        if not STAGE_NAME.fullmatch(name):
            problem = "the name of a stage may have letters, digits, '_' and '-' only"
            faults.add(mark, f"stages.{name}", problem)
    name = root.value.get("name")
    text = name.value if name is not None and isinstance(name.value, str) else "x"
    if not PIPELINE_NAME.fullmatch(text):
        problem = "may have letters, digits, '_', '-' and '.' only"
        faults.add(root.keys["name"], "name", problem)


def check_selected_names(selected: Iterable[str], stages: Node, file: Path) -> None:
    """Raise UsageError for a selected stage that the file does not have."""
    if not isinstance(stages.value, dict):
        return
    for name in sorted(selected):
        # A command may name a stage by its key too.
        if name not in stages.value and STAGE_NAME.fullmatch(name) and not KEY.fullmatch(name):
            raise UsageError(f"{file}: no stage '{name}'{did_you_mean(name, stages.value)}")


def expected_ranges(
    top: Node, header: PipelineHeader, kinds: dict[str, type[Stage]], faults: Faults
) -> dict[str, tuple[float, float]]:
    """Return the expected range of the main figure of each stage that has one, in percent.

    Args:
        top: the document of one member.
        header: its head.
        kinds: the class of each stage that has one.
        faults: where faults go, each with its place.
    """
    if header.expected is FAULTY:
        return {}
    stages = top.value["stages"].value
    for name, (low, high) in header.expected.items():
        mark, where = top.mark_at(("expected", name)), f"expected.{name}"
        if name not in stages:
            faults.add(mark, where, f"no stage '{name}'{did_you_mean(name, stages)}")
        elif name in kinds and not issubclass(kinds[name].produces, Scores):
            made = kinds[name].produces.__name__
            faults.add(mark, where, f"the stage makes {made}; name one that makes Scores")
        elif low > high:
            faults.add(mark, where, f"{low:g} is above {high:g}; write [low, high]")
    return {name: (low, high) for name, (low, high) in header.expected.items()}
