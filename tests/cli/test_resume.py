"""The printed command that resumes a run does what was left, and its plan says so."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tests.cli.common import lines_of
from tests.conftest import command_line
from transfer.cli import run as run_module
from transfer.cli.resume_command import resume_command

Write = Callable[..., Path]
MATRIX = """\
name: resumed
matrix: {seed: [0, 1, 2]}
seed: ${seed}
data: {card: drawings, limit: 64}
stages:
  pretext:
    uses: pretext/rotation
    backbone: {name: conv4, width: 0.25}
    epochs: 400
    batch_size: 16
  net: {uses: pretext/random, backbone: {name: conv4, width: 0.25}}
  features: {uses: extract/network, model: net, layer: conv4, pool: 2}
  clusters: {uses: cluster, features: features, k: 5, iterations: 2}
"""
SHORT = ("--set", "stages.pretext.epochs=2")


class Interrupted:
    """A run that gets a signal once a line that it prints, or a checkpoint, shows where it is."""

    def __init__(self, file: Path, store: Path, *words: object, number: int = signal.SIGINT):
        command = [sys.executable, "-m", "transfer", "run", str(file), "--store", str(store)]
        command += ["--device", "cpu", "--threads", "1", "--save-every", "0", *map(str, words)]
        self.process = subprocess.Popen(
            command,
            cwd=file.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.store, self.number = store, number

    def command(self) -> list[str]:
        """Send the signal when a stage has a checkpoint; return the words of the command."""
        while self.process.poll() is None:
            if any(self.store.glob(".checkpoints/*/progress.json")):
                self.process.send_signal(self.number)
                break
        _, err = self.process.communicate(timeout=100)
        assert self.process.returncode == 128 + self.number, err
        assert "Traceback" not in err
        (line,) = [line for line in err.splitlines() if line.startswith("To resume: ")]
        words = shlex.split(line.removeprefix("To resume: "))
        assert words[:2] == ["transfer", "run"]
        return words[1:]


def plan(words: list[str], folder: Path) -> dict[str, str]:
    """The stages that a command runs, each with its state and reason."""
    done = command_line(*words, "-n", cwd=folder)
    lines = {name: " ".join(line.split()[3:]) for name, line in lines_of(done.stdout).items()}
    marked = {name: line for name, line in lines_of(done.stdout).items() if line[1] == "*"}
    return {name: lines[name] for name in marked}


@pytest.fixture
def matrix(pipeline: Write, tmp_path: Path) -> Path:
    """A matrix whose members are all made, with short trainings."""
    file = pipeline(MATRIX, "matrix file.yaml")
    command_line("run", file, "--store", tmp_path / "s", *SHORT, cwd=tmp_path)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_forced_member_goes_on_alone_and_from_its_checkpoint(
    matrix: Path, tmp_path: Path, number: int
) -> None:
    long = ("--set", "stages.pretext.epochs=400")
    words = Interrupted(
        matrix, tmp_path / "s", "pretext[seed=0]", "net[seed=0]", "-f", *long, number=number
    ).command()
    assert words[2] == "pretext[seed=0]"
    assert plan(words, tmp_path).keys() <= {"pretext[seed=0]", "net[seed=0]"}
    state = plan(words, tmp_path)["pretext[seed=0]"]
    assert state.startswith("resumed from epoch")
    assert state.endswith("forced")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "named", "runs"),
    [
        (["-f"], [], None),
        (["pretext", "net", "-f"], ["pretext", "net"], {"pretext", "net"}),
        (["pretext[seed=1]", "--only", "-f"], ["pretext[seed=1]"], {"pretext[seed=1]"}),
        (["pretext[seed=2]", "--from", "--force"], ["pretext[seed=2]"], {"pretext[seed=2]"}),
        (["pretext", "--restart", "-k", "-j", "2"], ["pretext"], {"pretext"}),
        ([], [], {"pretext"}),
    ],
)
def test_the_command_runs_what_is_left_of_what_was_asked(
    matrix: Path, tmp_path: Path, asked: list[str], named: list[str], runs: set[str] | None
) -> None:
    long = ("--set", "stages.pretext.epochs=400", "--tag", "mine")
    words = Interrupted(matrix, tmp_path / "s", *asked, *long).command()
    assert "--restart" not in words
    assert words[words.index("--tag") + 1] == "mine"
    forced = {"-f", "--force"} & {*asked}
    assert bool(forced) is ("--force" in words)
    left = plan(words, tmp_path)
    if forced and not any("--" in word for word in words[2:3]) and runs is None:
        assert {name.partition("[")[0] for name in left} >= {"pretext", "features"}
    elif runs is not None:
        names = {name if "[" in next(iter(runs)) else name.partition("[")[0] for name in left}
        assert names <= runs
    resumed = [state for state in left.values() if state.startswith("resumed from epoch")]
    assert resumed
    for name in named:
        assert any(word == name or word.startswith(f"{name}[") for word in words[2:])


def parsed(*words: str) -> click.Context:
    return run_module.run.make_context("run", [*words])


@pytest.mark.parametrize(
    ("words", "remaining", "resumed"),
    [
        (["p.yaml", "a", "--restart"], None, ["p.yaml", "a"]),
        (["p.yaml", "-f", "a", "b"], ["b"], ["p.yaml", "b", "--force"]),
        (["p.yaml", "-fk", "a", "b"], ["b"], ["p.yaml", "b", "--force", "--keep-going"]),
        (["--force", "p.yaml", "a"], [], ["p.yaml", "a"]),
        (["p.yaml", "a", "-f"], None, ["p.yaml", "a", "--force"]),
        (["p.yaml", "a", "b", "-f", "--from"], ["b"], ["p.yaml", "b", "--force", "--only"]),
        (["p.yaml", "a", "-f", "--from"], None, ["p.yaml", "a", "--from", "--force"]),
        (["p.yaml", "x[a=1,b=2]", "-f"], ["x[a=1,b=2]"], ["p.yaml", "x[a=1,b=2]", "--force"]),
        (["p.yaml", "a", "-j4"], None, ["p.yaml", "a", "--jobs", "4"]),
        (["p.yaml", "-j", "4"], ["a"], ["p.yaml", "--jobs", "4"]),
        (["--store", "my dir", "p.yaml"], None, ["p.yaml", "--store", "my dir"]),
        (["--again", "best", "-f"], ["b"], ["b", "--force", "--again", "best"]),
        (["--", "-p.yaml"], None, ["./-p.yaml"]),
        (
            ["a b's.yaml", "--set", "data=/x y/$HOME #1", "--set=stages.a.b='\"'"],
            None,
            ["a b's.yaml", "--set", "data=/x y/$HOME #1", "--set", "stages.a.b='\"'"],
        ),
        (
            ["p.yaml", "--smoke", "--tag", "t", "--device", "cpu", "--no-wait", "--compile"],
            None,
            ["p.yaml", "--smoke", "--no-wait", "--device", "cpu", "--compile", "--tag", "t"],
        ),
        (
            ["p.yaml", "--threads", "3", "--precision", "float32", "--save-every", "5"],
            None,
            ["p.yaml", "--precision", "float32", "--threads", "3", "--save-every", "5.0"],
        ),
        (["p.yaml", "--exit-code", "--only", "a"], None, ["p.yaml", "a", "--only", "--exit-code"]),
    ],
)
def test_every_option_is_in_the_command_and_quoted(
    words: list[str], remaining: list[str] | None, resumed: list[str]
) -> None:
    line = resume_command(parsed(*words), remaining)
    assert shlex.split(line) == ["transfer", "run", *resumed]
    shell = subprocess.run(
        ["/bin/sh", "-c", f"transfer() {{ printf '%s\\0' \"$@\"; }}; {line}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.split("\0")[:-1] == ["run", *resumed]
    again = parsed(*resumed)
    before = parsed(*words)
    kept = {**before.params, "restart": False}
    if remaining is None:
        kept["file"] = again.params["file"]
        assert again.params == kept


def test_a_store_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFER_STORE", "/a b/store")
    assert resume_command(parsed("p.yaml"), None) == "transfer run p.yaml --store '/a b/store'"
    line = resume_command(parsed("p.yaml", "--store", "x"), None)
    assert line == "transfer run p.yaml --store x"


@pytest.mark.slow
def test_restart_discards_all_checkpoints_before_it_begins(matrix: Path, tmp_path: Path) -> None:
    store, long = tmp_path / "s", ("--set", "stages.pretext.epochs=400")
    Interrupted(matrix, store, "pretext[seed=1]", *long).command()
    assert "resumed" in plan(["run", str(matrix), "--store", "s", *long], tmp_path)[
        "pretext[seed=1]"
    ]
    words = ["run", str(matrix), "--store", "s", *long, "--restart"]
    assert plan(words, tmp_path)["pretext[seed=1]"] == (
        "to run restarted; its checkpoint is discarded"
    )
    (before,) = store.glob(".checkpoints/*/progress.json")
    words = Interrupted(matrix, store, "pretext", "--restart", *long).command()
    states = plan(words, tmp_path)
    assert sum("resumed" in state for state in states.values()) <= 1
    assert not before.exists() or states["pretext[seed=1]"].startswith("resumed from epoch")
