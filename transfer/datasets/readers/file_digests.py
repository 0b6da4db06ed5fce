"""Digests of a dataset's files, computed again only for files that changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from transfer.datasets.readers.file_tree import Tree
from transfer.datasets.readers.read_errors import error_text
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list, plural
from transfer.utils.progress import Progress
from transfer.utils.stamp_cache import settled_stamp

READ_AT_ONCE = 4096  # files
SAVE_EVERY = 60.0  # s


def digests(
    tree: Tree,
    names: Iterable[str],
    known: Mapping[str, Any],
    save: Callable[[dict[str, list]], None],
) -> dict[str, list]:
    """Return [stamp, sha256] for each file; UsageError lists the files that cannot be read.

    Args:
        tree: the dataset.
        names: the files.
        known: results of earlier calls; a file whose stamp they hold is not read again.
        save: called every minute with the results so far, so that an interrupted first reading of
            a large dataset continues.
    """
    facts, fresh, faults = {}, {}, []
    for name in names:
        try:
            now = tree.stamp(name)
        except OSError as error:
            faults.append(f"{name}: {error.strerror}")
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
                if fault:
                    faults.append(f"{name}: {fault}")
                else:
                    facts[name] = [settled_stamp(fresh[name]), digest]
                progress.advance(1)
            if time.monotonic() - saved > SAVE_EVERY:
                save(facts)
                saved = time.monotonic()
    if faults:
        count = plural(len(faults), "file")
        raise UsageError(f"{tree.path}: {count} cannot be read:{fault_list(sorted(faults))}")
    return facts


def changes(known: dict[str, list], now: dict[str, list]) -> list[str]:
    """Return what differs between two results of `digests`; nothing if the first is empty."""
    if not known:
        return []
    removed, added = sorted(known.keys() - now.keys()), sorted(now.keys() - known.keys())
    other = sorted(name for name in known.keys() & now.keys() if known[name][1] != now[name][1])
    return [
        *(f"{name} was removed" for name in removed),
        *(f"{name} was added" for name in added),
        *(f"{name} has changed" for name in other),
    ]


def _digest(tree: Tree, name: str) -> tuple[str, str]:
    """Return (sha256, ""), or ("", why the file cannot be read)."""
    try:
        return tree.digest(name), ""
    except (OSError, ValueError) as error:
        return "", error_text(error)
