"""The history of a store as JSON and as text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from transfer.errors import CorruptArtifact, UsageError
from transfer.storage.history import RecordedRun
from transfer.storage.store import Store
from transfer.utils.formatting import duration, plural

Json = dict[str, Any]
RUNNING, KILLED = "running", "killed"
SHOWN_SCORES = 4  # of a run, as text


def history_json(store: Store, file: Path | None = None) -> list[Json]:
    """Return the runs of a store and of its smoke runs, latest first; of all files, or of one."""
    path = None if file is None else str(file.resolve())
    entries: list[tuple[float, Json]] = []
    for opened in (store, store.smoke):
        records = opened.history.read()
        tags = {run.run: name for name, run in records.tags.items()}
        entries += [
            (run.time, _entry(run, opened, opened is not store, tags))
            for run in records.runs
            if path in (None, run.file)
        ]
    return [entry for _, entry in sorted(entries, key=lambda timed: timed[0])][::-1]


def _entry(run: RecordedRun, store: Store, smoke: bool, tags: dict[str, str]) -> Json:
    facts = asdict(run)
    for name in ("time", "ended", "selection"):
        facts.pop(name)
    return facts | {
        "time": _iso(run.time),
        "ended": None if run.ended is None else _iso(run.ended),
        "seconds": None if run.ended is None else round(run.ended - run.time, 1),
        "outcome": outcome(store, run),
        "tag": tags.get(run.run),
        "smoke": smoke,
        "only": run.selection == "--only",
        "from": run.selection == "--from",
        "artifacts": {
            label: {"uses": uses, "key": key} for label, (uses, key) in run.artifacts.items()
        },
    }


def outcome(store: Store, run: RecordedRun) -> str:
    """Return how a run ended: `done`, `up to date`, `failed`, `stopped`, `running`, `killed`."""
    if run.ended is not None:
        return run.outcome
    return RUNNING if store.is_running(run) else KILLED


def history_text(entries: Sequence[Json]) -> str:
    """Return what `history_json` returns, as lines; a run repeated with nothing to do is one."""
    if not entries:
        return "nothing was run yet"
    lines: list[str] = []
    repeated: dict[str, int] = {}
    for entry in entries:
        repeated[entry["same"] or entry["run"]] = repeated.get(entry["same"] or entry["run"], 0) + 1
    for entry in entries:
        count = repeated.pop(entry["same"] or entry["run"], 0)
        if not count:
            continue
        lines += [_line(entry, count), *_score_lines(entry["figures"])]
    return "\n".join(lines)


def _score_lines(scores: dict[str, dict[str, Any]]) -> list[str]:
    """Return figures of the first scores of a run; `--json` has all."""
    lines = [f"    {label}: {_figure_text(figures)}" for label, figures in scores.items()]
    more = len(lines) - SHOWN_SCORES
    return [*lines[:SHOWN_SCORES], *([f"    and {plural(more, 'more score')}"] if more > 0 else [])]


def _figure_text(figures: dict[str, Any]) -> str:
    """Return the figure of the chosen layer where layers were compared, else all figures."""
    chosen = [name for name in figures if name.startswith("chosen layer")]
    return ", ".join(f"{name} {figures[name]}" for name in chosen or figures)


def _line(entry: Json, count: int) -> str:
    when = entry["time"][:16].replace("T", " ")
    words = [Path(entry["file"]).name, *entry["stages"]]
    words += ["--only"] * entry["only"] + ["--from"] * entry["from"] + ["--smoke"] * entry["smoke"]
    words += [word for assignment in entry["sets"] for word in ("--set", assignment)]
    ending = entry["outcome"]
    if entry["seconds"]:
        ending += f" after {duration(entry['seconds'])}"
    if count > 1:
        ending += f", {count} times"
    name = f"{entry['run']}  [{entry['tag']}]" if entry["tag"] else entry["run"]
    return f"{when}  {name}  {shlex.join(words)}  {ending}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def remove_tag(store: Store, name: str) -> str:
    """Take a tag from its run; return a line for the user. UsageError if no run has it.

    Where a run and a smoke run have it, only the run loses it.
    """
    tagged = [opened for opened in (store, store.smoke) if name in opened.history.read().tags]
    if not tagged:
        raise UsageError(f"--untag {name}: no run has this tag; `transfer history` lists the tags")
    tagged[0].history.remove_tag(name)
    of = "" if tagged[0].root == store.root else " from a smoke run"
    more = "; a smoke run still has it" if len(tagged) > 1 else ""
    return f"tag {name} removed{of}{more}; `transfer gc` may list what only it kept"


def drop_damaged(store: Store) -> str:
    """Drop the lines that cannot be read; return a line for the user."""
    count = sum(opened.history.drop_damaged() for opened in (store, store.smoke))
    return f"{plural(count, 'damaged line')} dropped"


def damage_lines(store: Store) -> list[str]:
    """Return a line for each record of runs that cannot be read, with the remedy."""
    lines: list[str] = []
    for opened in (store, store.smoke):
        if damaged := opened.history.read().damaged:
            numbers = ", ".join(map(str, damaged))
            command = shlex.join(["transfer", "history", "--drop-damaged", "--store"])
            lines.append(
                f"{opened.history.path}: {plural(len(damaged), 'line')} cannot be read "
                f"({numbers}), so what was used then is unknown, and `transfer gc` deletes no "
                f"results; to drop: {command} {shlex.quote(str(store.root))}"
            )
        try:
            opened.history.former_runs()
        except CorruptArtifact as error:
            lines.append(f"{error}; until then `transfer gc` deletes no results")
    return lines
