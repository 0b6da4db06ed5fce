"""Verify artifacts: every byte of a pipeline's results, or of a whole store, or a part of it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.api import Pipeline
from transfer.errors import CorruptArtifact, UsageError
from transfer.storage.store import Store
from transfer.utils.formatting import file_size, plural
from transfer.utils.progress import Progress


@dataclass(frozen=True)
class Part:
    """The n-th of equal parts of a store; all parts have every artifact exactly once.

    Keys alone decide, so an artifact stays in its part while others come and go.
    """

    number: int = 1
    total: int = 1

    def has(self, key: str) -> bool:
        """Whether the artifact of this key belongs to the part."""
        digest = hashlib.sha256(key.encode("utf-8")).digest()
        return int.from_bytes(digest[:8], "big") % self.total == self.number - 1


@dataclass(frozen=True)
class _Candidate:
    """An artifact to verify, and its name in messages."""

    store: Store
    uses: str
    key: str
    label: str


def verify_pipeline(pipeline: Pipeline, part: Part) -> dict[str, Any]:
    """Hash every file of the pipeline's artifacts, and compare it with its manifest."""
    candidates = [
        _Candidate(pipeline.store, planned.uses, planned.key, planned.label)
        for planned in pipeline.plan
    ]
    file = str(pipeline.plan.file)
    result: dict[str, Any] = _verify(candidates, part) | {
        "file": file,
        "store": str(pipeline.store.root),
    }
    if result["damaged"]:
        labels = (entry["stage"] for entry in result["damaged"])
        command = ["transfer", "run", file, *labels, "-f", *pipeline.flags]
        result["repair"] = shlex.join(command)
    return result


def verify_store(root: Path, smoke: bool, part: Part) -> dict[str, Any]:
    """Hash every file of every artifact in a store, and compare it with its manifest.

    Args:
        root: the folder of the store.
        smoke: read the results of smoke runs alone; they are read in any case.
        part: which artifacts to read.
    """
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise UsageError(f"{root}: the store {problem}; name a pipeline file, or --store DIR")
    store = Store(root)
    candidates = [*_candidates(store.smoke, "smoke/"), *(() if smoke else _candidates(store))]
    return _verify(candidates, part) | {"store": str(store.smoke.root if smoke else root)}


def verify_text(result: dict[str, Any]) -> str:
    """Return the result of `verify_pipeline` or `verify_store` as lines."""
    lines = [f"damaged: {entry['stage']}: {entry['what']}" for entry in result["damaged"]]
    count, damaged = len(result["intact"]), len(result["damaged"])
    if not count and not damaged:
        where = f"no result of {result['file']} is in" if "file" in result else "no results in"
        part = f" part {result['part']} of" if result["part"] != "1/1" else ""
        return f"nothing to verify: {where}{part} {result['store']}"
    read = f"{plural(count, 'artifact')} intact ({file_size(result['bytes'])} read)"
    part = f"part {result['part']}: " if result["part"] != "1/1" else ""
    lines.append(f"{part}{read}, {damaged} damaged")
    if "repair" in result:
        # Without -f, a run meets only what it reads, or what is missing or of another size.
        lines.append(f"A run without -f may not notice. To repair them: {result['repair']}")
    elif damaged:
        lines.append(
            "A run may not notice. Remove these folders, and the next run that uses them makes "
            "them again; or name a pipeline file, for the command that repairs its own."
        )
    return "\n".join(lines)


def _candidates(store: Store, prefix: str = "") -> Iterator[_Candidate]:
    """Yield the artifacts of a store, with those that lost their manifest."""
    for folder in store.artifacts(damaged=True):
        uses = folder.parent.relative_to(store.root).as_posix()
        yield _Candidate(store, uses, folder.name, f"{prefix}{uses}/{folder.name}")


def _verify(candidates: Iterable[_Candidate], part: Part) -> dict[str, Any]:
    chosen = [candidate for candidate in candidates if part.has(candidate.key)]
    intact: list[str] = []
    damaged: list[dict[str, str]] = []
    total = 0
    with Progress("verifying", len(chosen), "artifacts") as progress:
        for candidate in chosen:
            folder = candidate.store.folder(candidate.uses, candidate.key)
            try:
                manifest = candidate.store.find(candidate.uses, candidate.key)
                if manifest is not None:
                    candidate.store.check(folder, manifest, thorough=True)
                    intact.append(candidate.label)
                    total += manifest.bytes
                elif folder.exists():
                    raise CorruptArtifact(folder, "its manifest is missing")
            except CorruptArtifact as error:
                if folder.exists():  # else another process removed it meanwhile
                    damaged.append({"stage": candidate.label, "what": str(error)})
            progress.advance(1)
    shown = f"{part.number}/{part.total}"
    return {"intact": intact, "damaged": damaged, "bytes": total, "part": shown}
