"""`transfer history`, `run --tag` and `run --again`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.common import lines_of
from tests.cli.small import SMALL, clusters
from tests.conftest import TINY, Said, Tiny, command_line

Invoke = Callable[..., Said]
Write = Callable[..., Path]
K6 = ("--set", "stages.clusters.k=6")
FAILS = """
from transfer.plugin import Features, Stage, stage_input


class Fails(Stage):
    produces = Features
    features: str = stage_input(Features, "anything")

    def run(self, context):
        raise ZeroDivisionError("my own mistake")
"""


@pytest.fixture
def small(pipeline: Write) -> Path:
    return pipeline(SMALL, "small.yaml")


def runs(invoke: Invoke, *words: object) -> list[dict[str, Any]]:
    return json.loads(invoke("history", *words, "--json").out)


def test_a_run_is_recorded_with_what_it_was_asked_and_how_it_ended(
    invoke: Invoke, small: Path, pipeline: Write
) -> None:
    assert invoke("history", "--store", "s").out == "nothing was run yet\n"
    pipeline(FAILS, "fails.py")
    bad = ("--set", "stages.bad={uses: 'fails.py:Fails', features: features}")
    invoke("run", small, "clusters", "--store", "s", *K6, "--tag", "six")
    invoke("run", small, "bad", "--store", "s", *bad, check=1)
    invoke("run", small, "net", "--only", "--store", "s")
    invoke("run", small, "--smoke", "--store", "s")
    invoke("run", small, "-n", "--store", "s")  # a dry run is none
    smoke, only, failed, six = runs(invoke, "--store", "s")
    assert [run["outcome"] for run in (smoke, only, failed, six)] == [
        "done",
        "up to date",
        "failed",
        "done",
    ]
    assert [run["smoke"] for run in (smoke, only, failed, six)] == [True, False, False, False]
    assert six["sets"] == ["stages.clusters.k=6"]
    assert six["stages"] == ["clusters"]
    assert six["tag"] == "six"
    assert six["file"] == str(small)
    assert only["only"] is True
    assert six["artifacts"].keys() == {"drawings/unlabeled", "net", "features", "clusters"}
    assert six["artifacts"]["clusters"]["key"] == clusters(Path("s"))[6].name
    said = invoke("history", "--store", "s").out.splitlines()
    assert len(said) == 4
    assert f"{six['run']}  [six]  small.yaml clusters --set stages.clusters.k=6  done" in said[3]
    assert "bad" in said[2]
    assert "failed" in said[2]
    assert "small.yaml --smoke  done" in said[0]


def test_the_history_shows_scores_and_can_be_asked_for_one_file(
    invoke: Invoke, finished: Tiny, pipeline: Write
) -> None:
    (first,) = runs(invoke, "--store", finished.store, finished.file)[-1:]
    assert first["figures"].keys() == {"linear", "knn"}
    shown = invoke("history", finished.file, "--store", finished.store).out
    assert f"knn {first['figures']['knn']['knn']}" in shown
    other = pipeline(TINY, "other.yaml")
    assert runs(invoke, "--store", finished.store, other) == []


def test_a_tag_names_one_run_and_is_not_taken_from_a_finished_one(
    invoke: Invoke, small: Path
) -> None:
    store = ("--store", "s")
    invoke("run", small, *store, "--tag", "best")
    invoke("run", small, *store, "--tag", "best")  # the same results
    for flags in ([], ["-n"]):
        said = invoke("run", small, *store, *K6, "--tag", "best", *flags, check=2)
        assert f"of {small} has it" in said.err
        assert said.out == ""
    invoke("run", small, *store, "--tag", "best", "-n")
    assert clusters(Path("s")).keys() == {5}
    invoke("history", *store, "--untag", "best")
    invoke("run", small, *store, *K6, "--tag", "best")
    assert [run["tag"] for run in runs(invoke, *store)] == ["best", None, None]
    assert "no run has this tag" in invoke("history", *store, "--untag", "bets", check=2).err


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "../x", "0123abcd", "$(x)"])
def test_a_tag_is_a_word(invoke: Invoke, small: Path, name: str) -> None:
    for flags in ([], ["-n"]):
        said = invoke("run", small, "--store", "s", f"--tag={name}", *flags, check=2)
        assert "must start with" in said.err
        assert said.out == ""
    assert not Path("s/.history").exists()


def test_again_runs_the_same_thing_and_says_how_the_file_differs_now(
    invoke: Invoke, small: Path
) -> None:
    store = ("--store", "s")
    invoke("run", small, "clusters", *store, *K6, "--tag", "six")
    invoke("run", small, *store)
    said = invoke("run", "--again", "six", *store).out
    assert said.splitlines()[-1] == "nothing to do"
    assert "since run" not in said
    latest = runs(invoke, *store)[0]
    assert (latest["sets"], latest["stages"]) == (["stages.clusters.k=6"], ["clusters"])
    assert clusters(Path("s")).keys() == {5, 6}
    # By its id; a comment is no difference.
    small.write_text("# a comment\n" + SMALL, encoding="utf-8")
    first = runs(invoke, *store)[-1]["run"]
    assert "since run" not in invoke("run", "--again", first, *store).out
    small.write_text(SMALL.replace("iterations: 2", "iterations: 3"), encoding="utf-8")
    said = invoke("run", "--again", "six", *store, "-n").out
    former, now = clusters(Path("s"))[6].name, lines_of(said)["clusters:"].split()[-1]
    assert f"small.yaml has changed since run {first}:" in said
    assert f"  clusters: iterations 2 → 3 (key {former} → {now}" in said
    small.unlink()
    assert "its pipeline file" in invoke("run", "--again", "six", *store, check=2).err
    assert "did you mean 'six'?" in invoke("run", "--again", "sixx", *store, check=2).err
    said = invoke("run", "--again", "zzz", *store, check=2).err
    assert "choose from: six, " in said
    assert first in said
    said = invoke("run", "--again", "six", *store, "--set", "seed=1", check=2).err
    assert "takes the --set of that run" in said
    assert "Missing argument 'FILE'" in invoke("run", *store, check=2).err


def test_again_finds_a_smoke_run_and_paths_of_set_where_they_were(
    invoke: Invoke, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    (tmp_path / "here" / "photos").mkdir(parents=True)
    for number in range(24):
        Image.new("RGB", (40, 40), (10 * number, 0, 0)).save(
            tmp_path / "here" / "photos" / f"{number}.png"
        )
    monkeypatch.chdir(tmp_path / "here")
    words = ("--set", "data={folder: photos, size: 32}")
    invoke("run", small, "--store", tmp_path / "s", "--smoke", "--tag", "tried", *words)
    monkeypatch.chdir(tmp_path)
    said = invoke("run", "--again", "tried", "--store", "s").out
    assert said.startswith("smoke run of small")
    assert said.splitlines()[-1] == "nothing to do"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    said = invoke("run", "--again", "tried", "--store", "s", "-n").out
    assert "cannot be entered" in said
    assert "drawings replace" in said


@pytest.mark.slow
def test_runs_at_once_and_a_killed_one_are_all_in_the_history(small: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "transfer", "run", str(small), "--store", str(tmp_path / "s")]
    at_once = [
        subprocess.Popen([*words, "--set", f"stages.clusters.k={k}"], stdout=subprocess.PIPE)
        for k in (2, 3, 4)
    ]
    for process in at_once:
        process.communicate()
        assert process.returncode == 0
    killed = subprocess.Popen([*words, "--set", "seed=7"], stdout=subprocess.PIPE)
    history = tmp_path / "s" / ".history" / "runs.jsonl"
    while history.read_bytes().count(b"\n") < 7:
        time.sleep(0.01)
    os.kill(killed.pid, 9)
    killed.communicate()
    shown = json.loads(
        command_line("history", "--store", tmp_path / "s", "--json", cwd=tmp_path).stdout
    )
    assert sorted(run["outcome"] for run in shown) == ["done", "done", "done", "killed"]
    assert {*clusters(tmp_path / "s")} >= {2, 3, 4}


def test_runs_from_python_are_recorded_and_load_reads_the_file_as_written(
    invoke: Invoke, small: Path, tmp_path: Path
) -> None:
    import transfer

    store = tmp_path / "s"
    loaded = transfer.load(small, store=store, sets=["stages.clusters.k=6"])
    loaded.run("clusters", tag="six")
    assert runs(invoke, "--store", store)[0]["tag"] == "six"
    assert transfer.load(small, store=store).stage("clusters").stage.k == 5


def test_an_id_may_be_shortened(invoke: Invoke, small: Path) -> None:
    store = ("--store", "s")
    invoke("run", small, "clusters", *store)
    run = runs(invoke, *store)[0]["run"]
    assert "nothing to do" in invoke("run", "--again", run[:5], *store).out
    assert "no run has this tag or id" in invoke("run", "--again", run[:3], *store, check=2).err


def test_untag_takes_the_name_from_the_run_before_the_smoke_run(
    invoke: Invoke, small: Path
) -> None:
    store = ("--store", "s")
    invoke("run", small, "clusters", *store, "--tag", "best")
    invoke("run", small, "clusters", *store, "--smoke", "--tag", "best")
    said = invoke("history", "--untag", "best", *store).out
    assert said.startswith("tag best removed; a smoke run still has it")
    assert "from a smoke run" in invoke("history", "--untag", "best", *store).out
    assert "no run has this tag" in invoke("history", "--untag", "best", *store, check=2).err
