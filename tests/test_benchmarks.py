"""Benchmarks: every script runs, figures are kept, and the page shows those that were kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import HISTORY, Report, options_parser, parsed, read_history
from benchmarks.rounds import Rounds, take_turns
from benchmarks.tables import BEGIN, END, README, latest, rewritten

ROOT = Path(__file__).resolve().parent.parent
SHARED = {"__init__", "common", "history", "lightly_loop", "replay", "rounds", "tables"}
SCRIPTS = sorted({path.stem for path in (ROOT / "benchmarks").glob("*.py")} - SHARED)


def smoke(script: str, *words: object) -> str:
    """What `python benchmarks/SCRIPT.py --smoke` prints, run from the root."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", "--smoke", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def record(**changes: Any) -> dict[str, Any]:
    """A record as a script writes it, with other values for some of its fields."""
    figure = {"measured": "a step", "value": 1234.5, "unit": "images/s"}
    figure |= {"alternative": "bare loop", "beside": 1000.0, "ratio": 1.2345}
    whole = {
        "script": "training",
        "date": "2025-01-02",
        "arguments": {"rounds": 3, "plain": False},
        "processor": "a processor",
        "amx": False,
        "cores": 2,
        "versions": {"torch": "2.9"},
        "smoke": False,
        "note": "",
        "remarks": [],
        "figures": [figure],
    }
    return whole | changes


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_runs_in_small_and_keeps_its_figures(script: str, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    printed = smoke(script, "--history", history)
    (kept,) = read_history(history)
    assert kept["script"] == script
    assert kept["smoke"]
    assert kept["figures"]
    for figure in kept["figures"]:
        assert f"{figure['measured']}: " in printed
    assert {"processor", "amx", "cores", "versions", "date", "arguments", "note"} <= kept.keys()


def test_there_are_scripts_and_the_page_names_all_of_them() -> None:
    assert len(SCRIPTS) == 12
    page = README.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)\.py` \|", page, flags=re.MULTILINE)) == set(SCRIPTS)


def test_no_script_needs_the_tests() -> None:
    for path in (ROOT / "benchmarks").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) tests\b", text, flags=re.MULTILINE), path.name


def test_the_tables_of_the_page_are_those_of_the_history() -> None:
    page = README.read_text(encoding="utf-8")
    assert rewritten(page, read_history()) == page, "run python -m benchmarks.tables"


def test_only_a_run_that_measures_has_a_history_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, default in (([], HISTORY), (["--smoke"], None)):
        monkeypatch.setattr(sys, "argv", ["x.py", *words])
        assert parsed(options_parser("A script.")).history == default


def test_the_history_holds_no_smoke_run() -> None:
    assert not [kept for kept in read_history() if kept["smoke"]]


def test_a_table_shows_the_last_run_of_a_script_with_the_same_arguments() -> None:
    other = record(arguments={"rounds": 5, "plain": True}, note="busy", remarks=["no dvc"])
    records = [record(date="2024-01-01"), other, record(), record(smoke=True)]
    assert latest(records) == [other, record()]
    text = rewritten(f"before\n{BEGIN}\nold\n{END}\nafter\n", records)
    assert "| a step | 1,234 | images/s | bare loop | 1,000 | 1.23 |" in text
    assert "2025-01-02; a processor, 2 cores, without AMX; torch 2.9." in text
    assert "Arguments: rounds 5; plain." in text
    assert "Note: busy." in text
    assert "- no dvc" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    with pytest.raises(ValueError, match="lacks the mark"):
        rewritten("no marks", records)


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    turns: list[str] = []

    def side(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    sides = {"a": lambda: side("a"), "b": lambda: {"b1": side("b"), "b2": 1.0}}
    rounds = take_turns(sides, 2)
    assert turns == ["a", "b"] * 3
    assert rounds.values == {"a": [3.0, 5.0], "b1": [4.0, 6.0], "b2": [1.0, 1.0]}


def test_a_ratio_is_the_median_of_the_pairs_and_of_a_sum() -> None:
    rounds = Rounds({"a": [1.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0], "c": [1.0, 2.0, 6.0]})
    assert rounds.ratio("a", "b") == 2.0
    assert rounds.ratio("a", "b", "c") == 1.0
    assert rounds.median("b", "c") == 4.0


def test_a_run_adds_a_line_and_a_failed_one_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history.jsonl"
    words = ["x.py", "--smoke", "--history", str(history), "--note", "busy"]
    monkeypatch.setattr(sys, "argv", words)
    parser = options_parser("A script.")
    parser.add_argument("--rounds", type=int, default=3)
    options = parsed(parser, rounds=1)
    with Report("x.py", options) as report:
        report.add("time", 2.0, "s")
        report.compare("rate", "1/s", Rounds({"a": [3.0], "b": [2.0]}), "a", "b")
    with pytest.raises(ZeroDivisionError), Report("x.py", options) as report:
        report.add("time", 1 / 0, "s")
    (line,) = history.read_text(encoding="utf-8").splitlines()
    kept = json.loads(line)
    assert kept["arguments"] == {"rounds": 1}
    assert kept["note"] == "busy"
    assert [figure["ratio"] for figure in kept["figures"]] == [None, 1.5]
    assert capsys.readouterr().out == "time: 2 s\nrate: 3 1/s; b 2; ratio 1.50\n"
