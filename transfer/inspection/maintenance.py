"""Keeping a store in order: verify what is there, collect what nobody needs, set up a new folder."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

from transfer.api import Pipeline
from transfer.artifacts import read_json
from transfer.errors import CorruptArtifact, UsageError
from transfer.inspection.views import file_size
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store
from transfer.utils.paths import shipped_folder


def verify(pipeline: Pipeline) -> dict[str, Any]:
    """Hash every file of the pipeline's artifacts; what differs from its manifest is damaged."""
    checked, damaged, total = [], [], 0
    for one in pipeline.plan:
        folder = pipeline.store.folder(one.uses, one.key)
        try:
            manifest = pipeline.store.find(one.uses, one.key)
            if manifest is None:
                continue
            pipeline.store.check(folder, manifest, thorough=True)
        except CorruptArtifact as error:
            damaged.append({"stage": one.label, "what": str(error)})
            continue
        checked.append(one.label)
        total += manifest.bytes
    words = [
        "transfer",
        "run",
        str(pipeline.plan.file),
        *(one["stage"] for one in damaged),
        "-f",
        *pipeline.flags,
    ]
    found = {"whole": checked, "damaged": damaged, "bytes": total, "file": str(pipeline.plan.file)}
    return found | ({"mend": shlex.join(words)} if damaged else {})


def verify_text(found: dict[str, Any]) -> str:
    lines = [f"damaged: {one['stage']}: {one['what']}" for one in found["damaged"]]
    lines.append(
        f"{len(found['whole'])} artifacts whole ({file_size(found['bytes'])} read), {len(found['damaged'])} damaged"
    )
    if found["damaged"]:
        lines.append(f"Whatever reads them makes them again; at once: {found['mend']}")
    return "\n".join(lines)


def collect_garbage(store: Store, delete: bool) -> dict[str, Any]:
    """Artifacts that no pipeline's latest results consist of or were made from, and what interrupted runs left.

    Checkpoints go too, so a stage that was interrupted starts anew after a `gc --delete`.
    """
    found = []
    for opened in (store, Store(store.root / "smoke")):
        kept = _needed(opened)
        found += [
            path
            for path in opened.artifacts()
            if path.name not in kept and "smoke" not in path.relative_to(opened.root).parts[:1]
        ]
        for name in (".building", ".checkpoints", ".damaged", ".logs"):
            found += sorted((opened.root / name).glob("*"))
        # What stood in the place of a result until a run that was killed put its own there.
        found += [
            one
            for one in opened.root.glob("**/.*.previous")
            if one.with_name(one.name[1:-9]).exists()
        ]
        found = [path for path in dict.fromkeys(found) if not _held(opened, path.name)]
    entries = [{"path": str(path), "bytes": _bytes(path)} for path in found]
    if delete:
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return {
        "store": str(store.root),
        "deleted": delete,
        "entries": entries,
        "bytes": sum(one["bytes"] for one in entries),
    }


def garbage_text(found: dict[str, Any]) -> str:
    root = Path(found["store"])
    lines = [
        f"{file_size(one['bytes']):>9}  {Path(one['path']).relative_to(root)}"
        for one in found["entries"]
    ]
    verb = "deleted" if found["deleted"] else "could go"
    lines.append(
        f"{len(found['entries'])} entries, {found['bytes']:,} bytes ({file_size(found['bytes'])}) {verb}"
    )
    if found["entries"] and not found["deleted"]:
        lines.append("nothing was deleted: add --delete")
    return "\n".join(lines)


def initialize(folder: Path) -> list[str]:
    """Copy the shipped pipeline files into `folder`/pipelines; one line a file."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder")
    target = folder / "pipelines"
    target.mkdir(parents=True, exist_ok=True)
    lines = []
    for source in sorted(shipped_folder("pipelines").glob("*.yaml")):
        copy = target / source.name
        if copy.exists():
            lines.append(f"{copy} is there already: left alone")
            continue
        shutil.copyfile(source, copy)
        lines.append(f"{copy}")
    lines.append(f"next: transfer run {target / 'jigsawpp_vgg_to_alexnet.yaml'}")
    return lines


def _needed(store: Store) -> set[str]:
    """Keys of the latest results of every pipeline, and of all that they were made from."""
    needed: set[str] = set()
    waiting = [one for name in store.pipelines() for one in _remembered(store, name)]
    while waiting:
        uses, key = waiting.pop()
        if key in needed:
            continue
        needed.add(key)
        try:
            manifest: Manifest | None = store.find(uses, key)
        except CorruptArtifact:
            continue
        if manifest is not None:
            waiting += [(one["stage"], one["key"]) for one in manifest.inputs.values()]
    return needed


def _remembered(store: Store, name: str) -> list[tuple[str, str]]:
    """`uses` and key of what a pipeline last consisted of; Damaged rather than nothing, which would let it all go."""
    path = store.root / ".pipelines" / f"{name}.json"
    try:
        return [(str(fact["uses"]), str(fact["key"])) for fact in read_json(path).values()]
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptArtifact(
            path.parent,
            f"{path.name} is not what was written: run that pipeline again, or remove it",
        ) from error


def _held(store: Store, key: str) -> bool:
    """Whether a running process is at work on the key."""
    from filelock import FileLock, Timeout

    path = store.root / ".locks" / f"{key}.lock"
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def _bytes(path: Path) -> int:
    return (
        sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        if path.is_dir()
        else path.stat().st_size
    )
