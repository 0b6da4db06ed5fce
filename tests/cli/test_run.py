"""`transfer run`: which stages run, failures, and how to resume."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.common import PACKS, STAGES, lines_of
from tests.conftest import TINY, Said, Tiny
from transfer.artifacts import Clusters, Scores


def test_a_run_with_nothing_to_do_says_so_and_touches_nothing_but_the_history(
    invoke: Callable[..., Said], tiny: Tiny
) -> None:
    def state() -> dict[Path, int]:
        own = {".answers", ".history"}
        found = (path for path in tiny.store.rglob("*") if not own & {*path.parts})
        return {path: path.stat().st_mtime_ns for path in found}

    before = state()
    said = invoke("run", tiny.file, "--store", tiny.store).out
    assert said.splitlines()[-1] == "nothing to do"
    assert state() == before


@pytest.mark.parametrize(
    ("words", "shown", "run"),
    [
        ([], [*STAGES, *PACKS], []),
        (["clusters"], ["drawings/unlabeled", *STAGES[:4]], []),
        (["clusters", "--only"], ["clusters"], []),
        (["pretext", "--only"], ["pretext", "drawings/unlabeled"], []),
        (["labels", "--from"], STAGES[4:], []),
        (["clusters", "-f"], ["drawings/unlabeled", *STAGES[:4]], ["clusters"]),
        (["target", "--from", "-f"], STAGES[5:], STAGES[5:]),
        (["-f"], [*STAGES, *PACKS], [*STAGES, *PACKS]),
        (["--set", "stages.clusters.k=4"], [*STAGES, *PACKS], STAGES[3:]),
        (["--set", "stages.clusters.k=4", "prepared"], ["drawings/unlabeled", *STAGES[:3]], []),
        (["--set", "stages.clusters.k=4", "--only", "clusters"], ["clusters"], ["clusters"]),
    ],
)
def test_a_dry_run_shows_the_stages_asked_for_and_which_of_them_run(
    invoke: Callable[..., Said], finished: Tiny, words: list[str], shown: list[str], run: list[str]
) -> None:
    before = sorted(finished.store.rglob("*"))
    said = invoke(
        "run",
        finished.file,
        "--store",
        finished.store,
        "-n",
        "--exit-code",
        *words,
        check=3 if run else 0,
    ).out
    assert sorted(lines_of(said).keys() - PACKS) == sorted(set(shown) - {*PACKS})
    assert lines_of(said).keys() >= set(shown)
    assert sorted(name for name, line in lines_of(said).items() if line.startswith(" *")) == sorted(
        run
    )
    assert sorted(finished.store.rglob("*")) == before


def test_from_takes_what_depends_on_a_stage_and_not_what_reads_the_same_images(
    invoke: Callable[..., Said], finished: Tiny
) -> None:
    words = [
        "run",
        finished.file,
        "--store",
        finished.store,
        "--set",
        "stages.other={uses: evaluate/knn, model: pretext, k: 5}",
    ]
    said = lines_of(invoke(*words, "target", "--from", "-n").out)
    assert said.keys() - PACKS == {"target", "linear", "knn"}


def test_only_and_from_ask_for_what_they_read(invoke: Callable[..., Said], finished: Tiny) -> None:
    words = [
        "run",
        finished.file,
        "--store",
        finished.store,
        "--device",
        "cpu",
        "--set",
        "stages.clusters.k=4",
    ]
    refusal = "labels reads clusters, which is not made yet; run it without --only or --from"
    for flags in (["--only"], ["--from"], ["--only", "-n"], ["--from", "-n"]):
        assert refusal in invoke(*words, "labels", *flags, check=2).err
    assert "no stage 'label'; did you mean 'labels'?" in invoke(*words, "label", check=2).err


def test_a_device_that_is_not_there_is_a_usage_error(
    invoke: Callable[..., Said], finished: Tiny
) -> None:
    words = ["run", finished.file, "--store", finished.store, "--device"]
    for flags in (["-f"], ["-f", "-n"]):
        for device in ("nonsense", "cuda:99"):
            said = invoke(*words, device, *flags, check=2).err
            assert f"--device {device}: not available" in said
    assert "nothing to do" in invoke(*words, "cuda:99", "-n").out  # as the run itself


FAILS = """
from transfer.plugin import Features, Stage, stage_input


class Fails(Stage):
    produces = Features
    features: str = stage_input(Features, "anything")

    def run(self, context):
        raise ZeroDivisionError("my own mistake")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "made"),
    [([], False), (["-k"], True), (["-k", "-j", "2"], True)],
    ids=["stops", "keeps going", "in parallel"],
)
def test_a_stage_that_fails_ends_with_1_and_stops_or_keeps_going(
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    invoke: Callable[..., Said],
    tiny: Tiny,
    pipeline: Callable[..., Path],
    flags: list[str],
    made: bool,
) -> None:
    pipeline(FAILS, "fails.py")
    # The failing stages come before those that can be made.
    first = (
        "stages:\n"
        "  bad: {uses: 'fails.py:Fails', features: features}\n"
        "  after: {uses: cluster, features: bad, k: 3}\n"
    )
    tiny.file.write_text(
        TINY.replace("stages:\n", first).replace("k: 5, iterations", "k: 4, iterations")
    )
    words = [
        "run",
        tiny.file,
        "bad",
        "after",
        "clusters",
        "--store",
        tiny.store,
        "--threads",
        2,
        *flags,
    ]
    done = transfer(*words, check=1)
    assert "ZeroDivisionError: my own mistake" in done.stderr
    assert ("clusters: done" in done.stdout) is made
    trace = re.search(r"traceback in (\S+)\)", done.stderr)
    assert trace is not None
    assert "Traceback" in Path(trace[1]).read_text(encoding="utf-8")
    assert f"To resume: transfer run {tiny.file} bad after clusters" in done.stderr
    if made:
        assert "after: not run, since bad failed" in done.stderr
    said = lines_of(invoke("status", tiny.file, "--store", tiny.store).out)
    assert ("cached" in said["clusters"]) is made
    assert "to run" in said["bad"]
    assert "cached" in said["features"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "left"),
    [([], ["clusters", "bad"]), (["--keep-going"], ["bad"]), (["--keep-going", "-j", 2], ["bad"])],
)
def test_to_go_on_makes_again_what_was_forced_and_not_made(
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    tiny: Tiny,
    pipeline: Callable[..., Path],
    flags: list[str],
    left: list[str],
) -> None:
    pipeline(FAILS, "fails.py")
    bad = "stages:\n  bad: {uses: 'fails.py:Fails', features: features}\n"
    tiny.file.write_text(TINY.replace("stages:\n", bad))
    words = [
        "run",
        tiny.file,
        "clusters",
        "bad",
        "--force",
        "--store",
        tiny.store,
        "--threads",
        2,
        *flags,
    ]
    done = transfer(*words, check=1)
    assert "bad: ZeroDivisionError" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("To resume: ")]
    options = ["--force", "--store", str(tiny.store), "--threads", "2", *map(str, flags)]
    assert line.split()[: 5 + len(left)] == [
        "To",
        "resume:",
        "transfer",
        "run",
        str(tiny.file),
        *left,
    ]
    assert sorted(line.replace("--jobs", "-j").split()[5 + len(left) :]) == sorted(options)


@pytest.mark.slow
def test_stages_run_side_by_side_and_the_figures_are_those_of_one_after_another(
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    finished: Tiny,
    tmp_path: Path,
    tiny: Tiny,
) -> None:
    shutil.rmtree(tiny.store / "evaluate")
    done = transfer(
        "run", tiny.file, "--store", tiny.store, "-j", 2, "--threads", 2, "--device", "cpu"
    ).stdout
    assert "linear: done" in done
    assert "knn: done" in done
    for path in tiny.store.glob("evaluate/*/*/scores.json"):
        assert path.read_bytes() == (finished.store / path.relative_to(tiny.store)).read_bytes()


def test_a_pipeline_runs_from_python_and_gives_its_artifacts(finished: Tiny) -> None:
    import transfer

    found = transfer.load(str(finished.file), store=finished.store).run("clusters")
    clusters = found["clusters"]
    assert isinstance(clusters, Clusters)
    assert clusters.centroids.shape == (5, 8)
    scores = transfer.load(str(finished.file), store=finished.store).artifact("knn")
    assert isinstance(scores, Scores)
    assert scores.figures.keys() == {"knn", "1-nn"}
