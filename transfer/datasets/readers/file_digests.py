"""Digests of a dataset's files, computed again only for files that changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from transfer.datasets.readers.file_tree import Tree, open_fault
from transfer.datasets.readers.left_out import refuse_faults
from transfer.datasets.readers.read_errors import error_text
from transfer.utils.progress import Progress
from transfer.utils.stamp_cache import settled_stamp

READ_AT_ONCE = 4096  # files
SAVE_EVERY = 60.0  # s
ADDED, REMOVED, CHANGED = "was added", "was removed", "has changed"
NO_DIGEST = "unreadable"  # in the place of the sha256


def digests(
    tree: Tree,
    names: Iterable[str],
    known: Mapping[str, Any],
    save: Callable[[dict[str, list]], None],
) -> dict[str, list]:
    """Return [stamp, sha256] for each file; UsageError lists the files that cannot be read.

    Where the tree's `skip` is set, such a file has [[], NO_DIGEST, reason]: the reason is for the
    counts, and the packing reports the fault of each file.

    Args:
        tree: the dataset.
        names: the files.
        known: results of earlier calls; a file whose stamp they hold is not read again.
        save: called every minute with the results so far, so that an interrupted first reading of
            a large dataset continues.
    """
    facts, fresh, faults = {}, {}, []

    def add_fault(name: str, error: Exception) -> None:
        facts[name] = [[], NO_DIGEST, open_fault(tree, name, error)]
        faults.append(f"{name}: {error_text(error)}")

    for name in names:
        try:
            now = tree.stamp(name)
        except OSError as error:
            add_fault(name, error)
            continue
        if name in known and known[name][0] == now:
            facts[name] = known[name]
        else:
            fresh[name] = now
    remaining, saved = iter(fresh), time.monotonic()
    with (
        Progress(f"reading {tree.path}", len(fresh), "files") as progress,
        ThreadPoolExecutor() as pool,
    ):
        while batch := list(islice(remaining, READ_AT_ONCE)):
            results = pool.map(partial(_digest, tree), batch)
            for name, (digest, fault) in zip(batch, results, strict=True):
                if fault is not None:
                    add_fault(name, fault)
                else:
                    facts[name] = [settled_stamp(fresh[name]), digest]
                progress.advance(1)
            if time.monotonic() - saved > SAVE_EVERY:
                save(facts)
                saved = time.monotonic()
    if not tree.skip:
        refuse_faults(tree.path, "file", sorted(faults), "cannot be read")
    return facts


def unreadable(facts: Mapping[str, list]) -> dict[str, str]:
    """Return the files of `digests` that cannot be read, with the reason."""
    return {name: fact[2] for name, fact in facts.items() if len(fact) > 2}


def changes(known: dict[str, list], now: dict[str, list]) -> list[str]:
    """Return what differs between two results of `digests`; nothing if the first is empty."""
    if not known:
        return []
    removed, added = sorted(known.keys() - now.keys()), sorted(now.keys() - known.keys())
    other = sorted(name for name in known.keys() & now.keys() if known[name][1] != now[name][1])
    return [
        *(f"{name} {REMOVED}" for name in removed),
        *(f"{name} {ADDED}" for name in added),
        *(f"{name} {CHANGED}" for name in other),
    ]


def _digest(tree: Tree, name: str) -> tuple[str, Exception | None]:
    """Return (sha256, None), or ("", why the file cannot be read)."""
    try:
        return tree.digest(name), None
    except (OSError, ValueError) as error:
        return "", error
