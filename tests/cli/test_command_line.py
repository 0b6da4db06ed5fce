"""The command line itself: help, faulty commands, imports and signals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Said, Tiny
from transfer.version import __version__

COMMANDS = [
    "run",
    "status",
    "list",
    "show",
    "compare",
    "export",
    "report",
    "verify",
    "gc",
    "graph",
    "doctor",
    "init",
]


HEAVY = (
    "torch",
    "torchvision",
    "faiss",
    "h5py",
    "matplotlib",
    "numpy",
    "scipy",
    "sklearn",
    "PIL",
    "safetensors",
)


def test_help_names_every_command_and_each_has_help(invoke: Callable[..., Said]) -> None:
    said = invoke("--help").out
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S", said, re.MULTILINE)
        assert "Usage:" in invoke(command, "--help").out
    assert __version__ in invoke("--version").out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["statsu", "x.yaml"], "No such command 'statsu'"),
        (["status"], "Missing argument 'FILE'"),
        (["run", "x.yaml", "--dryrun"], "No such option"),
        (["run", "x.yaml", "-j", "0"], "Invalid value for '-j'"),
        (["run", "none.yaml"], "none.yaml: cannot be read (No such file or directory)"),
        (["status", "."], ".: cannot be read (Is a directory)"),
        (["list", "stagse"], "is not one of 'stages', 'pretexts', 'backbones', 'data'"),
        (["list", "stages", "clusters"], "unknown stage 'clusters'; did you mean 'cluster'?"),
        (
            ["list", "pretexts", "jigsawp"],
            "unknown stage 'pretext/jigsawp'; did you mean 'pretext/jigsawpp'?",
        ),
        (
            ["list", "backbones", "efficientnet_lite0"],
            "without its prefix; write timm:efficientnet_lite0",
        ),
        (["list", "backbones", "vgg17"], "no backbone is called 'vgg17'; did you mean vgg19"),
        (["list", "data", "drawing"], "no image set called 'drawing'; did you mean 'drawings'?"),
    ],
)
def test_a_faulty_command_ends_with_2_and_says_what_was_meant(
    invoke: Callable[..., Said], words: list[str], hint: str
) -> None:
    said = invoke(*words, check=2)
    assert said.out == ""
    assert hint in said.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["list"], 0),
        (["list", "stages", "pretext/jigsawpp"], 0),
        (["list", "backbones", "vgg16"], 0),
        (["list", "data", "drawings"], 0),
        (["list", "--schema"], 0),
        (["status", "FILE", "--store", "STORE"], 0),
        (["show", "FILE", "clusters", "--store", "STORE"], 0),
        (["graph", "FILE"], 0),
        (["verify", "FILE", "--store", "STORE"], 0),
        (["gc", "--store", "STORE"], 0),
        (["run", "FILE", "--store", "STORE"], 0),
        (
            [
                "run",
                "FILE",
                "--store",
                "STORE",
                "--set",
                "stages.clusters.k=3",
                "-n",
                "--exit-code",
            ],
            3,
        ),
        (["run", "FILE", "--set", "seed=x"], 2),
    ],
)
def test_commands_that_make_nothing_import_nothing_heavy(
    finished: Tiny, tmp_path: Path, words: list[str], code: int
) -> None:
    script = (
        "import sys\n"
        "from transfer.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    names = {name.split('.')[0] for name in sys.modules}\n"
        "    print(*sorted(names), file=sys.stderr)\n"
    )
    places = {"FILE": str(finished.file), "STORE": str(finished.store)}
    command = [sys.executable, "-c", script, *(places.get(word, word) for word in words)]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == code
    assert set(HEAVY) & set(done.stderr.splitlines()[-1].split()) == set()


def test_a_reader_that_goes_away_is_no_error_to_show() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "transfer", "list", "--schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait(timeout=30)


@pytest.mark.parametrize(
    "words",
    [
        ["status", "FILE"],
        ["show", "FILE"],
        ["show", "FILE", "knn"],
        ["graph", "FILE"],
        ["verify", "FILE"],
        ["gc"],
        ["list"],
        ["list", "backbones"],
        ["list", "data"],
        ["list", "data", "folder"],
    ],
)
def test_every_reading_command_prints_json(
    invoke: Callable[..., Said], finished: Tiny, words: list[str]
) -> None:
    words = [str(finished.file) if word == "FILE" else word for word in words]
    store = [] if words[0] in ("list",) else ["--store", str(finished.store)]
    said = invoke(*words, *store, "--json")
    assert json.loads(said.out)
    assert said.err == ""


def test_an_interrupt_within_code_that_a_library_makes_ends_with_130_too(tmp_path: Path) -> None:
    """Python would end the process by the signal itself, though the interrupt was handled."""
    (tmp_path / "library.py").write_text(
        "import sys\nfrom transfer import cli\n"
        "@cli.cli.command()\ndef stopped():\n    exec('raise KeyboardInterrupt')\n"
        "sys.argv = ['transfer', 'stopped']\ncli.main()\n"
    )
    words = [sys.executable, "-m", "library"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (130, "stopped")
