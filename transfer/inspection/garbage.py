"""`gc`: list or delete what nobody needs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer.errors import TransferError
from transfer.inspection.keeping import Entry, KeepingRule, sort_entries
from transfer.inspection.runs import damage_lines
from transfer.storage.store import Store
from transfer.utils.formatting import file_size, plural

ATTEMPTS = 5  # to decide while no run begins


def collect_garbage(store: Store, rule: KeepingRule, delete: bool, kept: bool) -> dict[str, Any]:
    """List or delete what nobody needs: artifacts, and leftovers of interrupted runs.

    Args:
        store: the store; that of its smoke runs is included.
        rule: what stays besides what files ask for and tags name.
        delete: delete what is listed.
        kept: list what stays too.
    """
    stores = (store, store.smoke)
    for _ in range(ATTEMPTS):
        before = [_history_size(opened) for opened in stores]
        sortings = [sort_entries(opened, store.root, rule) for opened in stores]
        if before == [_history_size(opened) for opened in stores]:
            break  # no run began meanwhile
    else:
        raise TransferError(
            f"{store.root}: runs keep beginning; collect garbage when they are done"
        )
    for opened, sorting in zip(stores, sortings, strict=True):
        for entry in sorting.garbage if delete else ():
            opened.remove(entry.path)
    garbage = [entry for sorting in sortings for entry in sorting.garbage]
    unknown = {use.file: use.problem for sorting in sortings for use in sorting.unknown}
    result = {
        "store": str(store.root),
        "deleted": delete,
        "entries": [_json(entry) for entry in garbage],
        "bytes": sum(entry.size for entry in garbage),
        "unknown": [{"file": str(file), "problem": text} for file, text in unknown.items()],
        "damaged": damage_lines(store),
    }
    if kept:
        result["kept"] = [_json(entry) for sorting in sortings for entry in sorting.kept]
    return result


def _history_size(store: Store) -> int:
    path = store.history.path
    return path.stat().st_size if path.exists() else 0


def _json(entry: Entry) -> dict[str, Any]:
    return {"path": str(entry.path), "bytes": entry.size, "reason": entry.reason}


def garbage_text(result: dict[str, Any]) -> str:
    """Return the result of `collect_garbage` as lines."""
    root, entries = Path(result["store"]), result["entries"]
    lines = _entry_lines(entries, root)
    verb = "deleted" if result["deleted"] else "can be deleted"
    size = f"{result['bytes']:,} bytes ({file_size(result['bytes'])})"
    lines.append(f"{plural(len(entries), 'entry', 'entries')}, {size} {verb}")
    if entries and not result["deleted"]:
        lines.append("nothing was deleted; add --delete to delete them")
    if "kept" in result:
        lines += ["kept:", *_entry_lines(result["kept"], root)]
    for use in result["unknown"]:
        lines.append(f"{use['file']} is not understood now: {use['problem']}")
        lines.append("  what its runs used is kept; what it asks for besides is unknown")
        lines.append(f"  if the file is gone for good: --forget {shlex.quote(use['file'])}")
    return "\n".join([*lines, *result["damaged"]])


def _entry_lines(entries: Sequence[dict[str, Any]], root: Path) -> list[str]:
    return [
        f"{file_size(entry['bytes']):>9}  {Path(entry['path']).relative_to(root)}"
        f"  {entry['reason']}"
        for entry in entries
    ]
