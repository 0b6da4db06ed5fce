"""What of a store stays, and why.

Artifacts stay that a pipeline file asks for, that a tag keeps, that a run in progress uses, or that
were used within the keeping time, with all that they were made from. Where what a file or a run
used cannot be read, everything that it may have used stays.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from transfer.errors import CorruptArtifact
from transfer.inspection.pipeline_files import FileUse, file_uses
from transfer.storage.history import RecordedRun, Records
from transfer.storage.manifest import MANIFEST, Manifest
from transfer.storage.store import Store
from transfer.utils.formatting import duration, plural

DAY = 86_400  # seconds
DEFAULT_DAYS = 30


@dataclass(frozen=True)
class KeepingRule:
    """What stays besides what files ask for and tags name.

    Args:
        seconds: what was used within these seconds; None: no matter when.
        runs: what the latest different runs of each file used; None: no number of runs.
        forgotten: pipeline files that no longer count.
    """

    seconds: float | None
    runs: int | None = None
    forgotten: Sequence[Path] = ()


@dataclass(frozen=True)
class Entry:
    """An artifact or a leftover in a store, and why it stays or can go."""

    path: Path
    size: int
    reason: str


@dataclass(frozen=True)
class Sorting:
    """The entries of a store that stay, those that can go, and files that were not understood."""

    kept: list[Entry]
    garbage: list[Entry]
    unknown: list[FileUse]


def sort_entries(store: Store, root: Path, rule: KeepingRule) -> Sorting:
    """Decide for each artifact and leftover of a store whether it stays.

    Args:
        store: the store, or that of its smoke runs.
        root: the folder of the store.
        rule: what stays.
    """
    records, now = store.history.read(), time.time()
    smoke = store.root != root
    artifacts = {path.name: path for path in store.artifacts()}
    leftovers = list(store.leftovers())
    if not artifacts and not leftovers:
        return Sorting([], [], [])
    former = _former_runs(store, records.start)
    damaged = bool(records.damaged) or former is None
    runs = [*(former or []), *records.runs]
    uses = file_uses(root, runs, smoke, rule.forgotten)
    inputs = {key: _inputs(path) for key, path in artifacts.items()}
    kept: dict[str, str] = {}
    for keys, reason in _kept_keys(store, records, runs, uses, rule, now):
        for key in _with_inputs(keys, inputs):
            kept.setdefault(key, reason)
    if damaged:
        keys = {*artifacts, *(path.stem for path, _ in leftovers)}
        kept = dict.fromkeys(keys, "records are damaged, so its users are unknown") | kept
    last_used: dict[str, RecordedRun] = {}
    for run in sorted(runs, key=lambda run: run.last_use):
        last_used |= dict.fromkeys(_with_inputs(run.keys, inputs), run)
    sorting = Sorting([], [], [use for use in uses if use.problem])
    for key, path in artifacts.items():
        with suppress(FileNotFoundError):  # another process removes it
            reason = kept.get(key) or _recent(path / MANIFEST, key, last_used, records, rule, now)
            used = _last_use_text(last_used.get(key), path / MANIFEST, now)
            _add(sorting, store, path, reason, used)
    for path, meaning in leftovers:
        with suppress(FileNotFoundError):
            resumable = path.parent.name in (".checkpoints", ".logs")
            reason = kept.get(path.stem, "") if resumable else ""
            if resumable and not reason:
                reason = _recent(path, path.stem, last_used, records, rule, now)
            _add(sorting, store, path, reason, meaning)
    return sorting


def _add(sorting: Sorting, store: Store, path: Path, reason: str, otherwise: str) -> None:
    if not reason and store.is_locked(path.stem):
        reason = "a run is making it"
    entries = sorting.kept if reason else sorting.garbage
    entries.append(Entry(path, _bytes(path), reason or otherwise))


def _kept_keys(
    store: Store,
    records: Records,
    runs: Sequence[RecordedRun],
    uses: Sequence[FileUse],
    rule: KeepingRule,
    now: float,
) -> Iterable[tuple[set[str], str]]:
    """Yield keys that stay, each with the reason, the strongest first."""
    for use in uses:
        if not use.problem:
            yield use.keys, f"{use.file.name} asks for it"
    for tag, run in records.tags.items():
        yield run.keys, f"tag {tag} ({_run_text(run)})"
    for run in records.runs:
        if store.is_running(run):
            yield run.keys, f"in use: {_run_text(run)} is running"
    for use in uses:
        for run in runs if use.problem else ():
            if use.is_of(run):
                yield run.keys, f"{use.file.name} is not understood now, and asked for it before"
    for run in _latest(runs, rule.runs or 0):
        yield run.keys, f"among the last {plural(rule.runs or 0, 'run')}: {_run_text(run)}"
    for run in reversed(runs):
        if rule.seconds is not None and now - run.last_use < rule.seconds:
            yield run.keys, f"used {_age(now - run.last_use)} ago: {_run_text(run)}"


def _latest(runs: Sequence[RecordedRun], count: int) -> Iterable[RecordedRun]:
    """Yield the last `count` runs of each file that asked for different results."""
    seen: dict[str, list[set[str]]] = {}
    for run in reversed(runs):
        different = seen.setdefault(run.file or run.pipeline, [])
        if run.keys not in different:
            different.append(run.keys)
        if different.index(run.keys) < count:
            yield run


def _recent(
    path: Path,
    key: str,
    last_used: dict[str, RecordedRun],
    records: Records,
    rule: KeepingRule,
    now: float,
) -> str:
    """Why something stays that no run of the keeping time used; empty where it does not."""
    if rule.seconds is None:
        return ""
    made = path.stat().st_mtime
    if now - made < rule.seconds:
        return f"made {_age(now - made)} ago"
    if key not in last_used and made < records.start and now - records.start < rule.seconds:
        return f"older than the history, which began {_age(now - records.start)} ago"
    return ""


def _former_runs(store: Store, start: float) -> list[RecordedRun] | None:
    """Return what versions without a history recorded, as if run when the history began.

    None where a record is damaged.
    """
    try:
        return [replace(run, time=start) for run in store.history.former_runs()]
    except CorruptArtifact:
        return None


def _inputs(folder: Path) -> set[str]:
    """The keys of what an artifact was made from; empty where its manifest is damaged."""
    try:
        return {source["key"] for source in Manifest.read(folder).inputs.values()}
    except CorruptArtifact:
        return set()


def _with_inputs(keys: Iterable[str], inputs: Mapping[str, set[str]]) -> set[str]:
    """Return keys with those of everything that the artifacts were made from."""
    reached, waiting = set(keys), list(keys)
    while waiting:
        more = inputs.get(waiting.pop(), set()) - reached
        reached |= more
        waiting += more
    return reached


def _run_text(run: RecordedRun) -> str:
    if not run.file:
        return f"pipeline {run.pipeline}"
    words = [Path(run.file).name, *run.stages]
    words += [word for assignment in run.sets for word in ("--set", assignment)]
    return shlex.join(words)


def _last_use_text(run: RecordedRun | None, manifest: Path, now: float) -> str:
    """Why an artifact can go."""
    if run is None:
        made = _age(now - manifest.stat().st_mtime)
        return f"no run of the history used it; made {made} ago"
    return f"last used {_age(now - run.last_use)} ago: {_run_text(run)}"


def _age(seconds: float) -> str:
    if seconds >= DAY:
        return plural(int(seconds // DAY), "day")
    return duration(max(0.0, seconds))


def _bytes(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
