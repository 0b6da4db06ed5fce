"""What commands print goes out whole, whatever the encoding of the stream or of a name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Tiny

# What `status` prints of k 5 after k 6, by the encoding of the stream.
ARROWS = {"cp1252": "k 5 -> 4", "latin-1": "k 5 -> 4", "ascii": "k 5 -> 4", "utf-8": "k 5 → 4"}


def run(*words: object, cwd: Path, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    """Run a command whose streams have an encoding; paths may be bytes."""
    command = [word if isinstance(word, bytes) else str(word) for word in words]
    return subprocess.run(
        [sys.executable, "-m", "transfer", *command],
        cwd=cwd,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )


@pytest.mark.parametrize("encoding", ARROWS)
def test_a_sign_outside_the_encoding_is_replaced(
    finished: Tiny, tmp_path: Path, encoding: str
) -> None:
    words = (finished.file, "--store", finished.store, "--set", "stages.clusters.k=4")
    for command in (("status",), ("run", "-n")):
        done = run(*command, *words, cwd=tmp_path, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
        assert ARROWS[encoding] in done.stdout.decode(encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("form", ["text", "--json", "--csv", "--markdown", "--latex"])
def test_every_table_is_printed(finished: Tiny, tmp_path: Path, encoding: str, form: str) -> None:
    words = ["compare", finished.file, "--store", finished.store, *([form] * (form != "text"))]
    done = run(*words, cwd=tmp_path, encoding=encoding)
    assert done.returncode == 0
    text, whole = done.stdout.decode(encoding), run(*words, cwd=tmp_path).stdout.decode("utf-8")
    if form == "--json":
        assert json.loads(text) == json.loads(whole)
    else:
        assert len(text.splitlines()) == len(whole.splitlines())
    assert "pooled-v1" in text


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_name_outside_the_encoding_is_escaped_and_json_keeps_it(
    finished: Tiny, tmp_path: Path, encoding: str
) -> None:
    file = tmp_path / "写真.yaml"
    file.write_bytes(finished.file.read_bytes().replace(b"name: tiny\n", b""))
    message = run("status", tmp_path / "無い.yaml", cwd=tmp_path, encoding=encoding)
    assert message.returncode == 2
    assert "\\u7121\\u3044.yaml: cannot be read" in message.stderr.decode(encoding)
    done = run("status", file, "--json", "--store", "写", cwd=tmp_path, encoding=encoding)
    assert json.loads(done.stdout.decode(encoding))["store"] == str(tmp_path / "写")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_printed(finished: Tiny, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    file = folder + b"/tiny.yaml"
    with open(file, "wb") as written:
        written.write(finished.file.read_bytes())
    words = (file, "--store", finished.store)
    for command in ("status", "show", "graph", "compare"):
        done = run(command, *words, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
    done = run("report", *words, "-o", folder + b"/report.html", cwd=tmp_path)
    assert b"caf\\xe9/report.html written" in done.stdout
    Path(os.fsdecode(folder), "report.html").read_text(encoding="utf-8")
    done = run("export", file, "target", "out", *words[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("status", file, cwd=tmp_path)
    assert (done.returncode, b"path is not valid UTF-8" in done.stderr) == (2, True)
    done = run("status", folder + b"/none.yaml", *words[1:], cwd=tmp_path)
    assert b"caf\\xe9/none.yaml: cannot be read" in done.stderr


@pytest.mark.parametrize("words", [["list"], ["list", "--schema"], ["run", "none.yaml"]])
def test_a_pipe_whose_reader_has_gone_ends_the_command_quietly(
    tmp_path: Path, words: list[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "transfer", *words]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("short", ["short"]),
        ("one two three four", ["one two", "  three", "  four"]),
        ("  epochs  passes over images", ["  epochs  passes over images"]),
        ("x: transfer run f.yaml --store long", ["x: transfer run f.yaml --store long"]),
        ("averyveryverylongword", ["averyveryverylongword"]),
        ("", [""]),
    ],
)
def test_lines_break_at_words_and_commands_stay_whole(line: str, lines: list[str]) -> None:
    from transfer.cli.text_output import wrapped

    width = 30 if "epochs" in line else 9
    assert wrapped(line, width).split("\n") == lines


def test_what_follows_stands_below_the_last_column() -> None:
    from transfer.cli.text_output import wrapped

    text = "  epochs    passes over the images of the set"
    assert wrapped(text, 30).split("\n") == [
        "  epochs    passes over the",
        "            images of the set",
    ]


def test_a_terminal_gets_lines_that_fit_and_a_file_gets_whole_ones(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "transfer", "list", "stages", "cluster"]
    leader, follower = os.openpty()
    environment = os.environ | {"COLUMNS": "60", "LINES": "24"}
    subprocess.run(command, stdout=follower, env=environment, check=True)
    os.close(follower)
    shown = os.read(leader, 1 << 20).decode()
    os.close(leader)
    piped = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert max(map(len, shown.splitlines())) <= 60
    assert max(map(len, piped.stdout.splitlines())) > 60
    assert " ".join(shown.split()) == " ".join(piped.stdout.split())[: len(" ".join(shown.split()))]
