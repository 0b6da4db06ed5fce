"""Collect garbage in a store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transfer.errors import CorruptArtifact
from transfer.storage.store import Store
from transfer.utils.formatting import file_size, plural


def collect_garbage(store: Store, delete: bool) -> dict[str, Any]:
    """List or delete artifacts that no pipeline's latest results depend on, and leftovers.

    Leftovers of interrupted runs include checkpoints; without them, a stage starts from the
    beginning.
    """
    garbage: list[Path] = []
    for opened in (store, store.smoke):
        needed = _needed_keys(opened)
        candidates = [path for path in opened.artifacts() if path.name not in needed]
        candidates += opened.leftovers()
        garbage += [path for path in dict.fromkeys(candidates) if not opened.is_locked(path.name)]
    sizes = [_bytes(path) for path in garbage]
    for path in garbage if delete else ():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return {
        "store": str(store.root),
        "deleted": delete,
        "entries": [
            {"path": str(path), "bytes": size} for path, size in zip(garbage, sizes, strict=True)
        ],
        "bytes": sum(sizes),
    }


def garbage_text(result: dict[str, Any]) -> str:
    """Return the result of `collect_garbage` as lines."""
    root, entries = Path(result["store"]), result["entries"]
    lines = [
        f"{file_size(entry['bytes']):>9}  {Path(entry['path']).relative_to(root)}"
        for entry in entries
    ]
    verb = "deleted" if result["deleted"] else "can be deleted"
    size = f"{result['bytes']:,} bytes ({file_size(result['bytes'])})"
    lines.append(f"{plural(len(entries), 'entry', 'entries')}, {size} {verb}")
    if entries and not result["deleted"]:
        lines.append("nothing was deleted; add --delete to delete them")
    return "\n".join(lines)


def _needed_keys(store: Store) -> set[str]:
    """The keys of every pipeline's latest artifacts, and of all that they were made from."""
    needed: set[str] = set()
    waiting = [entry for name in store.pipelines() for entry in store.recorded_artifacts(name)]
    while waiting:
        uses, key = waiting.pop()
        if key in needed:
            continue
        needed.add(key)
        try:
            manifest = store.find(uses, key)
        except CorruptArtifact:
            continue
        if manifest is not None:
            waiting += [(source["stage"], source["key"]) for source in manifest.inputs.values()]
    return needed


def _bytes(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
