"""The cache keys of the shipped pipelines: `python -m tests.frozen_keys` writes them again.

A key that changes makes every user run that stage again. It may change where a stage's result
changes for the same options: then raise the stage's `version`, and write the keys again.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from transfer.pipeline.loader import load_plan
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage
from transfer.storage.store import Store

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "tests" / "frozen_keys.json"
# The shipped files whose images are drawings: their keys are the same on every machine.
PIPELINES = sorted(
    path
    for path in (ROOT / "pipelines").glob("*.yaml")
    if "\ndata: drawings" in path.read_text(encoding="utf-8")
)


def plan_of(path: Path) -> Plan:
    """The plan of a pipeline file."""
    with tempfile.TemporaryDirectory() as folder:
        return load_plan(path, Store(Path(folder)))


def frozen(planned: PlannedStage[Any]) -> str:
    """`pretext/jigsawpp version 1: 0b1c...`, as the file has it."""
    return f"{planned.uses} version {planned.stage.version}: {planned.key}"


def write() -> None:
    """Write the keys of all shipped pipelines."""
    keys = {
        path.stem: {planned.label: frozen(planned) for planned in plan_of(path)}
        for path in PIPELINES
    }
    FILE.write_text(json.dumps(keys, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
