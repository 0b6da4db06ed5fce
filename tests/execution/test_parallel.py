"""`-j`: the events of child processes, their failures, and a child that is killed from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import TINY, Tiny
from transfer.errors import Interrupted
from transfer.execution import parallel
from transfer.execution.child_events import read_event, write_report

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('{"report": "a: done\\n  a note"}\n', ("report", "a: done\n  a note")),
        ('{"error": "a: failed"}\n', ("error", "a: failed")),
        ("printed by a plug-in\n", ("report", "printed by a plug-in")),
        ("3\n", ("report", "3")),
        ('{"report": 3}\n', ("report", '{"report": 3}')),
        ('{"loss": "0.5"}\n', ("report", '{"loss": "0.5"}')),
        ("{\n", ("report", "{")),
    ],
)
def test_line_of_a_child_is_an_event_or_a_report(line: str, event: tuple[str, str]) -> None:
    assert read_event(line) == event


def test_report_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    write_report("done\n  é")
    written = capsys.readouterr().out
    assert written.count("\n") == 1
    assert read_event(written) == ("report", "done\n  é")


@pytest.mark.slow
def test_child_prints_events_only(transfer: Command, tiny: Tiny) -> None:
    words = ["run", tiny.file, "clusters", "--only", "--child", "--force", "--store", tiny.store]
    done = transfer(*words, "--threads", 1, "--device", "cpu")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    reports = [event["report"] for event in events if "report" in event]
    assert {kind for event in events for kind in event} <= {"report", "progress"}
    assert len(reports) == 1
    assert reports[0].startswith("clusters: done in ")
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["labels", "--set", "stages.clusters.k=4"], 2, "labels reads clusters, which is not made"),
        (["labels", "--set", "stages.clusters.k=two"], 2, "stages.clusters.k: should be a valid"),
        (["bad"], 2, "no stage 'bad'"),
    ],
)
def test_error_of_a_child_is_an_event(
    transfer: Command, tiny: Tiny, words: list[str], code: int, text: str
) -> None:
    command = ["run", tiny.file, *words, "--only", "--child", "--store", tiny.store]
    done = transfer(*command, "--device", "cpu", check=code)
    (event,) = map(json.loads, done.stdout.splitlines())
    assert text in event["error"]
    assert "To resume" not in event["error"]
    assert done.stderr == ""


NOISY = """
from transfer.plugin import Features, Stage, TransferError, stage_input


class Noisy(Stage):
    \"\"\"Prints, and fails.\"\"\"

    produces = Features
    features: str = stage_input(Features, "what is not read")

    def run(self, context):
        print("a line of its own")
        raise TransferError("no luck")
"""


@pytest.mark.slow
def test_what_a_plugin_prints_and_its_error_reach_the_user(
    transfer: Command, tiny: Tiny, pipeline: Callable[..., Path]
) -> None:
    pipeline(NOISY, "noisy.py")
    stages = "stages:\n  noisy: {uses: 'noisy.py:Noisy', features: features}\n"
    tiny.file.write_text(TINY.replace("stages:\n", stages), encoding="utf-8")
    words = ["run", tiny.file, "noisy", "--store", tiny.store, "-j", 2, "--device", "cpu"]
    done = transfer(*words, "--threads", 2, check=1)
    assert "a line of its own" in done.stdout.splitlines()
    assert "noisy: FAILED: no luck" in done.stdout.splitlines()
    first, second = done.stderr.splitlines()
    assert first == "transfer: noisy: no luck"
    assert second.startswith(f"To resume: transfer run {tiny.file} noisy")


def children_of(parent: int) -> list[int]:
    """The processes whose parent is `parent`."""
    pids = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            pids.append(int(status.parent.name))
    return pids


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_killed_child_is_reported_with_its_stage(tiny: Tiny) -> None:
    longer = TINY.replace("epochs: 1\n    batch_size: 32\n    tile", "epochs: 4000\n    tile")
    longer = longer.replace("    tile_size", "    batch_size: 16\n    tile_size")
    tiny.file.write_text(longer, encoding="utf-8")
    words = ["run", tiny.file, "pretext", "--store", tiny.store, "-j", "2"]
    words += ["--threads", "2", "--device", "cpu", "--save-every", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "transfer", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(tiny.store.glob(".checkpoints/*/training.safetensors")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    (child,) = children_of(process.pid)
    os.kill(child, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    message = "its process was killed by signal 9, perhaps for lack of memory"
    assert f"pretext: FAILED: {message}" in out
    assert err.startswith(f"transfer: pretext: {message}\nTo resume: transfer run ")
    assert process.returncode == 128 + signal.SIGKILL


def test_stop_while_packing_waits_for_the_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing runs in the parent, beside children that must save their checkpoints first."""
    signals: list[int] = []

    class Child:
        """Ends as soon as it gets a signal."""

        def __init__(self, run: Any, planned: Any):
            self.process = SimpleNamespace(send_signal=signals.append)

        def has_ended(self) -> bool:
            return bool(signals)

        def collect(self, run: Any) -> None:
            pass

    def run_stage(planned: object) -> None:
        run.stop.number = signal.SIGINT
        raise Interrupted(signal.SIGINT)

    run: Any = SimpleNamespace(
        stop=SimpleNamespace(number=0),
        failed={},
        options=SimpleNamespace(jobs=3, keep_going=False),
        skip_if_upstream_failed=lambda planned: False,
        run_stage=run_stage,
    )
    monkeypatch.setattr(parallel, "_Child", Child)
    stages: Any = [Stage(is_pack=False), Stage(is_pack=True), Stage(is_pack=False)]
    with pytest.raises(Interrupted, match="checkpoints of running stages are saved"):
        parallel.run_parallel(run, stages)
    assert signals == [signal.SIGINT]


class Stage:
    """A planned stage, as far as the scheduler looks at it."""

    def __init__(self, is_pack: bool):
        self.is_pack, self.dependencies = is_pack, {}
