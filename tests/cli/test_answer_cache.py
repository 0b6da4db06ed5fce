"""A command with nothing to do prints its cached output, as long as nothing has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Tiny, command_line

pytestmark = pytest.mark.slow

PROBE = """
import sys
sys.argv = ["transfer", *{words!r}]
from transfer.cli import main
try:
    main()
finally:
    print("FROM MEMORY" if "pydantic" not in sys.modules else "READ AGAIN")
"""


def say(tiny: Tiny, *words: str, command: str = "run") -> str:
    asked = [command, str(tiny.file), "--store", str(tiny.store), *words]
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(words=asked)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tiny.file.parent,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture
def answered(tiny: Tiny) -> Tiny:
    """A finished pipeline that was asked for once more."""
    os.utime(tiny.file)
    assert "nothing to do" in say(tiny)
    before = say(tiny)
    assert "FROM MEMORY" in before
    assert "nothing to do" in before
    return tiny


def test_status_answers_from_memory_too_as_text_and_as_json(answered: Tiny) -> None:
    for words in ((), ("--json",)):
        first, second = (say(answered, *words, command="status") for _ in range(2))
        assert "READ AGAIN" in first
        assert "FROM MEMORY" in second
        assert first.replace("READ AGAIN", "") == second.replace("FROM MEMORY", "")


def test_another_command_has_another_answer(answered: Tiny) -> None:
    assert "READ AGAIN" in say(answered, "--set", "seed=1", "-n")
    assert "READ AGAIN" in say(answered, "-n")


@pytest.mark.parametrize(
    "change",
    [
        lambda tiny: tiny.file.write_text(tiny.file.read_text() + "# a comment\n"),
        lambda tiny: shutil.rmtree(next(tiny.store.glob("cluster/*"))),
        lambda tiny: _flip(next(tiny.store.glob("assign/*/labels.csv"))),
        lambda tiny: _flip(next(tiny.store.glob("cluster/*/manifest.json"))),
        lambda tiny: shutil.rmtree(tiny.store / ".history"),
        lambda tiny: [file.write_text("{") for file in tiny.store.glob(".answers/*.json")],
    ],
    ids=[
        "comment",
        "artifact gone",
        "file changed",
        "manifest changed",
        "history gone",
        "answer damaged",
    ],
)
def test_whatever_changes_is_looked_at(change: Callable[[Tiny], object], answered: Tiny) -> None:
    change(answered)
    assert "READ AGAIN" in say(answered, command="run")


def _flip(path: Path) -> None:
    """Change a byte, and keep size and mtime: only the time of the last status change differs."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_folder_of_pictures_is_looked_through_every_time(tiny: Tiny, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(4):
        Image.new("RGB", (40, 40), (60 * i, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
    file = tmp_path / "p.yaml"
    file.write_text(
        "data: {folder: photos, size: 32}\nstages:\n  r: {uses: pretext/random, backbone: conv4}\n"
    )
    for _ in range(2):
        command_line("run", file, "--store", tmp_path / "s", cwd=tmp_path)
    Image.new("RGB", (40, 40), (9, 9, 9)).save(tmp_path / "photos" / "new.png")
    assert (
        "to run" in command_line("run", file, "--store", tmp_path / "s", "-n", cwd=tmp_path).stdout
    )
