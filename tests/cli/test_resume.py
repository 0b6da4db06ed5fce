"""The printed command that resumes a run does what was left, and its plan says so."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tests.cli.common import lines_of
from tests.cli.small import SMALL
from tests.conftest import Said, command_line
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
    epochs: 2000
    batch_size: 16
  net: {uses: pretext/random, backbone: {name: conv4, width: 0.25}}
  features: {uses: extract/network, model: net, layer: conv4, pool: 2}
  clusters: {uses: cluster, features: features, k: 5, iterations: 2}
"""


ALL = ("pretext", "net", "features", "clusters")


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
        self.store, self.number, self.started = store, number, time.time()

    def command(self) -> list[str]:
        """Send the signal when a stage has a checkpoint; return the words of the command."""
        while self.process.poll() is None:
            progress = self.store.glob(".checkpoints/*/progress.json")
            if any(path.stat().st_mtime > self.started for path in progress):
                self.process.send_signal(self.number)
                break
            time.sleep(0.02)
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store where all members are made, but for their trainings."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "m.yaml").write_text(MATRIX, encoding="utf-8")
    command_line("run", "m.yaml", "clusters", "--store", "s", "--threads", 1, cwd=folder)
    return folder / "s"


@pytest.fixture
def matrix(pipeline: Write, made: Path, tmp_path: Path) -> Path:
    """A file with a blank in its name, and a copy of that store beside it."""
    shutil.copytree(made, tmp_path / "s")
    return pipeline(MATRIX, "matrix file.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_forced_member_goes_on_alone_and_from_its_checkpoint(
    matrix: Path, tmp_path: Path, number: int
) -> None:
    long = ("--set", "stages.pretext.epochs=2001")
    words = Interrupted(
        matrix, tmp_path / "s", "pretext[seed=0]", "net[seed=0]", "-f", *long, number=number
    ).command()
    assert words[2] == "pretext[seed=0]"
    assert plan(words, tmp_path).keys() <= {"pretext[seed=0]", "net[seed=0]"}
    state = plan(words, tmp_path)["pretext[seed=0]"]
    assert state.startswith("resumed from epoch")
    assert "forced" not in state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "words", "left"),
    [
        (["-f"], ["pretext", "net", "features", "clusters", "--force"], ALL),
        (["pretext", "net", "-f"], ["pretext", "net", "--force"], ("pretext", "net")),
        (
            ["pretext[seed=1]", "--only", "-f"],
            ["pretext[seed=1]", "--only", "--force"],
            ("pretext[seed=1]",),
        ),
        (
            ["pretext[seed=2]", "--from", "--force"],
            ["pretext[seed=2]", "--from", "--force"],
            ("pretext[seed=2]",),
        ),
        (
            ["pretext", "--restart", "-k", "-j", "2"],
            ["pretext", "--keep-going", "--jobs", "2"],
            ("pretext",),
        ),
        ([], [], ("pretext",)),
    ],
)
def test_the_command_runs_what_is_left_of_what_was_asked(
    matrix: Path, tmp_path: Path, asked: list[str], words: list[str], left: tuple[str, ...]
) -> None:
    tag = ["--tag", "mine"]
    command = Interrupted(matrix, tmp_path / "s", *asked, *tag).command()
    assert command[1] == str(matrix)
    common = {"--store", str(tmp_path / "s"), "--device", "cpu", "--threads", "1", *tag}
    common |= {"--save-every", "0.0"}
    assert [word for word in command[2:] if word not in common] == words
    states = plan(command, tmp_path)
    members = {f"{name}[seed={seed}]" for name in left for seed in range(3) if "[" not in name}
    assert states.keys() == members | {name for name in left if "[" in name}
    assert any(state.startswith("resumed from epoch") for state in states.values())


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
    store, long = tmp_path / "s", ("--set", "stages.pretext.epochs=2001")
    Interrupted(matrix, store, "pretext[seed=1]", *long).command()
    assert (
        "resumed" in plan(["run", str(matrix), "--store", "s", *long], tmp_path)["pretext[seed=1]"]
    )
    words = ["run", str(matrix), "--store", "s", *long, "--restart"]
    assert plan(words, tmp_path)["pretext[seed=1]"] == (
        "to run restarted; its checkpoint is discarded"
    )
    words = Interrupted(matrix, store, "pretext", "--restart", *long).command()
    states = plan(words, tmp_path)
    # Seed 0 was stopped before the turn of seed 1, whose old checkpoint is not resumed either.
    assert states["pretext[seed=0]"].startswith("resumed from epoch")
    assert states["pretext[seed=1]"].startswith("to run")


FAILS = """
from transfer.plugin import Features, Stage, stage_input


class Fails(Stage):
    produces = Features
    features: str = stage_input(Features, "anything")

    def run(self, context):
        raise ZeroDivisionError("my own mistake")
"""


@pytest.mark.parametrize("flags", [[], ["--keep-going"]])
def test_packed_images_that_are_left_are_named_too(
    invoke: Callable[..., Said], pipeline: Write, flags: list[str]
) -> None:
    pipeline(FAILS, "fails.py")
    bad = "  bad: {uses: 'fails.py:Fails', features: features}\n"
    knn = "  knn: {uses: evaluate/knn, model: net, k: 5}\n"
    file = pipeline(SMALL.replace("  clusters:", f"{bad}  clusters:") + knn)
    invoke("run", file, "net", "knn", "clusters", "--store", "s")
    err = invoke("run", file, "--store", "s", "-f", *flags, check=1).err
    (line,) = [line for line in err.splitlines() if line.startswith("To resume: ")]
    words = shlex.split(line.removeprefix("To resume: transfer "))
    said = invoke(*words, "-n").out
    forced = {name for name, text in lines_of(said).items() if text.startswith(" *")}
    left = {"bad", "clusters", "knn", "drawings/train", "drawings/test"}
    assert forced == ({"bad"} if flags else left)
    invoke(*words, check=1)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.8])
def test_ctrl_c_while_libraries_load_stops_the_run(tmp_path: Path, seconds: float) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(SMALL, encoding="utf-8")
    words = [sys.executable, "-m", "transfer", "run", str(file), "--store", str(tmp_path / "s")]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    while "clusters" not in process.stdout.readline():
        pass  # the last line of the plan
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode in (0, 130), rest  # 0: it had ended
    # Before the run listens, there is nothing to resume.
    assert process.returncode == 0 or "To resume: transfer run" in rest or rest == "stopped\n"
    assert seconds > 0 or process.returncode == 130


LINGERS = """
import atexit, os, pathlib, signal, sys, time


def linger():
    if "--child" in sys.argv and "net" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        pathlib.Path(os.environ["LINGERS"]).touch()
        time.sleep(100)


atexit.register(linger)
"""


@pytest.mark.slow
def test_a_stage_that_was_made_is_not_named_where_a_signal_meets_the_end_of_its_process(
    pipeline: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pipeline(SMALL)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(LINGERS, encoding="utf-8")
    words = ["run", "pipeline.yaml", "--store", "s", "--device", "cpu", "--threads", "1"]
    command_line(*words, cwd=tmp_path)
    paths = [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("LINGERS", str(tmp_path / "lingers"))
    process = subprocess.Popen(
        [sys.executable, "-m", "transfer", *words, "-j", "2", "--force"],
        cwd=file.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (tmp_path / "lingers").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "net: done" in out
    (line,) = [line for line in err.splitlines() if line.startswith("To resume: transfer ")]
    resumed = shlex.split(line.removeprefix("To resume: transfer "))
    assert resumed[:4] == ["run", "pipeline.yaml", "features", "clusters"]
    assert plan(resumed, tmp_path).keys() == {"features", "clusters"}
