"""Verify artifacts, and set up a new folder."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

from transfer.api import Pipeline
from transfer.errors import CorruptArtifact, UsageError
from transfer.utils.formatting import file_size, plural
from transfer.utils.paths import shipped_folder


def verify(pipeline: Pipeline) -> dict[str, Any]:
    """Hash every file of the pipeline's artifacts, and compare it with its manifest."""
    intact, damaged, total = [], [], 0
    for planned in pipeline.plan:
        folder = pipeline.store.folder(planned.uses, planned.key)
        try:
            manifest = pipeline.store.find(planned.uses, planned.key)
            if manifest is None:
                continue
            pipeline.store.check(folder, manifest, thorough=True)
        except CorruptArtifact as error:
            damaged.append({"stage": planned.label, "what": str(error)})
            continue
        intact.append(planned.label)
        total += manifest.bytes
    file = str(pipeline.plan.file)
    result = {"intact": intact, "damaged": damaged, "bytes": total, "file": file}
    if damaged:
        labels = (entry["stage"] for entry in damaged)
        command = ["transfer", "run", file, *labels, "-f", *pipeline.flags]
        result["repair"] = shlex.join(command)
    return result


def verify_text(result: dict[str, Any]) -> str:
    """Return the result of `verify` as lines."""
    lines = [f"damaged: {entry['stage']}: {entry['what']}" for entry in result["damaged"]]
    intact, damaged = plural(len(result["intact"]), "artifact"), len(result["damaged"])
    lines.append(f"{intact} intact ({file_size(result['bytes'])} read), {damaged} damaged")
    if damaged:
        lines.append(f"The next run repairs them. To repair them now: {result['repair']}")
    return "\n".join(lines)


def initialize(folder: Path) -> list[str]:
    """Copy the shipped pipeline files into `folder`/pipelines; return a line for each."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder")
    target = folder / "pipelines"
    target.mkdir(parents=True, exist_ok=True)
    lines = []
    for source in sorted(shipped_folder("pipelines").glob("*.yaml")):
        copy = target / source.name
        if copy.exists():
            lines.append(f"{copy} exists; not changed")
            continue
        shutil.copyfile(source, copy)
        lines.append(str(copy))
    lines.append(f"next: transfer run {target / 'jigsawpp_vgg_to_alexnet.yaml'}")
    return lines
