"""Progress of a run: bars on a terminal, few lines in a log, and the time left of the run."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

SLOW = """
import time
from transfer.plugin import Features, Stage, option
from transfer.artifacts import Clusters

class Slow(Stage):
    produces = Clusters
    epochs: int = option(10, "steps")
    after: str = option("", "nothing")

    def run(self, context):
        with context.progress("waiting", self.epochs, "steps") as progress:
            for step in range(self.epochs):
                progress.say(f"loss {step}.5, accuracy 50.0 %")
                time.sleep(0.06)
                progress.advance(1)
        (context.folder / "clusters.h5").write_bytes(b"x")
"""
FILE = """
name: slow
matrix: {seed: [0, 1]}
seed: ${seed}
stages:
  first: {uses: "slow.py:Slow"}
  second: {uses: "slow.py:Slow", after: "x"}
"""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A pipeline file of stages that take half a second each."""
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    file = tmp_path / "slow.yaml"
    file.write_text(FILE, encoding="utf-8")
    return file


def on_terminal(*words: object, width: int, cwd: Path, **variables: str) -> list[str]:
    """Run a command whose output is a terminal; return the lines that it drew."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS",)}
    process = subprocess.Popen(
        [sys.executable, "-m", "transfer", *map(str, words)],
        cwd=cwd,
        stdin=child,
        stdout=child,
        stderr=child,
        env={**environment, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", **variables},
    )
    os.close(child)
    drawn = b""
    while True:
        try:
            block = os.read(parent, 65536)
        except OSError:  # Linux ends a terminal with an error
            break
        if not block:
            break
        drawn += block
    os.close(parent)
    assert process.wait() == 0, drawn
    return re.split(r"[\r\n]+", drawn.decode("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "figures"), [(60, False), (80, False), (100, True)])
def test_bar_of_a_terminal_shows_place_member_speed_and_time_left(
    slow: Path, width: int, figures: bool
) -> None:
    lines = on_terminal("run", slow, width=width, cwd=slow.parent)
    drawn = [ESCAPE.sub("", line) for line in lines]
    titles = [line for line in drawn if line.startswith("stage ")]
    assert {line[:14].strip() for line in titles} == {f"stage {n} of 4" for n in (1, 2, 3, 4)}
    assert any("first[seed=0]: waiting" in line for line in titles)
    bars = [line for line in drawn if "━" in line and "left" in line]
    assert any(re.search(r"━{8,}.* \d+ %  \d+ steps/s  0:00 left", line) for line in bars)
    assert max(len(line) for line in titles + bars) <= width
    assert not figures or any(re.search(r"left  loss \d.5, accuracy 50.0 %", x) for x in bars)
    # The second member takes what the first took; before, nothing is known.
    assert not any("run ~" in line for line in titles if "stage 1 of 4" in line)
    assert any("run ~0:0" in line for line in titles if "stage 3 of 4" in line)


@pytest.mark.slow
def test_time_of_the_whole_run_comes_from_the_store_and_from_the_epochs(slow: Path) -> None:
    words = ["run", slow, "first[seed=0]", "second[seed=0]"]
    on_terminal(*words, width=80, cwd=slow.parent)
    longer = ["--set", "stages.first.epochs=20", "--set", "stages.second.epochs=60"]
    lines = on_terminal(*words, *longer, width=80, cwd=slow.parent)
    left = [int(x) for x in re.findall(r"stage 1 of 2.*run ~0:0(\d) left", "\n".join(lines))]
    assert max(left) >= 4  # 1.2 s and 3.6 s


@pytest.mark.slow
def test_two_stages_at_once_have_a_bar_each_and_no_line_is_lost(slow: Path) -> None:
    lines = on_terminal("run", slow, "-j", 2, width=80, cwd=slow.parent)
    drawn = [ESCAPE.sub("", line) for line in lines]
    for label in ("first[seed=0]", "first[seed=1]", "second[seed=0]", "second[seed=1]"):
        assert any(re.fullmatch(rf"stage \d of 4  {re.escape(label)}: waiting", x) for x in drawn)
        assert any(line.startswith(f"{label}: done in") for line in drawn)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "drawn"),
    [({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, True), ({}, True)],
)
def test_variables_of_the_terminal_are_heeded(
    slow: Path, variables: dict[str, str], drawn: bool
) -> None:
    words = ["run", slow, "first[seed=0]"]
    text = "\n".join(on_terminal(*words, width=80, cwd=slow.parent, **variables))
    assert ("━" in text) is drawn
    assert ("\x1b[" in text) is drawn
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", text)) is (not variables)


def test_log_of_a_short_run_has_no_progress(
    slow: Path, transfer: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = transfer("run", slow, "first[seed=0]")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_lines_of_a_log_become_rarer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transfer.utils import progress_display
    from transfer.utils.progress_layout import Snapshot

    now = 0.0
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: now)
    display = progress_display.LineDisplay()
    for second in range(36_000):
        now = float(second)
        display.show("x", Snapshot("training", "images", second, 36_000, 1.0))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  training 0 %, 1.0 images/s, 9:59:45 left"
    assert 50 < len(lines) < 150
