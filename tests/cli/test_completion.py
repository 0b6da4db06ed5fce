"""Completion of words in shells: stages, members, paths of `--set`, names of `list`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TINY, Said

Complete = Callable[..., list[str]]

MEMBERS = """\
name: members
matrix: {k: [4, 5], seed: [0, 1]}
seed: ${seed}
data: {card: drawings, limit: 64}
expected: {knn: [1, 2]}
stages:
  random: {uses: pretext/random, seed: 3, backbone: {name: conv4, width: 0.5}}
  features: {uses: extract/network, model: random, layer: conv4, pool: 2}
  clusters: {uses: cluster, features: features, k: "${k}"}
  labels: {uses: assign, features: features, clusters: clusters}
  knn: {uses: evaluate/knn, model: random}
"""


@pytest.fixture
def complete(invoke: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> Complete:
    """Return what a shell is offered for the last of some words, or the one at the cursor."""

    def call(*words: object, shell: str = "bash", cursor: int = -1) -> list[str]:
        position = str(words[-1]) if shell == "fish" else str(cursor % len(words))
        monkeypatch.setenv("_TRANSFER_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", "\n".join(map(str, words)))
        monkeypatch.setenv("COMP_CWORD", position)
        said = invoke()
        assert said.err == ""
        return [line for line in said.out.splitlines() if line]

    return call


@pytest.fixture
def members(pipeline: Callable[..., Path]) -> Path:
    return pipeline(MEMBERS, "members.yaml")


@pytest.mark.parametrize("command", ["run", "status", "show", "graph", "verify", "report"])
def test_stages_and_members_of_the_file_are_offered(
    complete: Complete, members: Path, command: str
) -> None:
    words = ["transfer", command, members]
    assert complete(*words, "f") == ["plain,features"] + [
        f"plain,features[seed={seed}]" for seed in (0, 1)
    ]
    labels = [f"plain,clusters[k={k},seed={seed}]" for k in (4, 5) for seed in (0, 1)]
    assert complete(*words, "clusters[") == labels
    assert complete(*words, "clusters[k=5") == labels[2:]
    assert complete(*words, "x") == []


def test_every_offered_member_exists(
    complete: Complete, invoke: Callable[..., Said], members: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = [word.partition(",")[2] for word in complete("transfer", "show", members, "")]
    assert len(offered) > 15
    monkeypatch.delenv("_TRANSFER_COMPLETE")
    for word in offered:
        invoke("status", members, word)


def test_stages_are_offered_after_options_and_for_several_files(
    complete: Complete, members: Path, pipeline: Callable[..., Path]
) -> None:
    tiny = pipeline(TINY, "tiny.yaml")
    words = ["transfer", "run", "--set", "seed=1", "-n", members, "knn", "lab"]
    assert "plain,labels" in complete(*words)
    assert complete("transfer", "export", tiny, "tar") == ["plain,target"]
    both = complete("transfer", "compare", tiny, members, "--stage", "l")
    assert [word for word in both if "[" not in word] == ["plain,labels", "plain,linear"]


@pytest.mark.parametrize(
    ("word", "offered"),
    [
        ("s", ["seed=", "stages."]),
        ("stages.cl", ["uses=", "features=", "k=", "iterations=", "init=", "n_init=", "seed="]),
        ("stages.clusters.k", ["stages.clusters.k="]),
        ("stages.clusters.i", ["stages.clusters.iterations=", "stages.clusters.init="]),
        ("stages.random.backbone.w", ["stages.random.backbone.width="]),
        ("stages.random.b", ["stages.random.backbone.", "stages.random.backbone="]),
        ("matrix.", ["matrix.k=", "matrix.seed="]),
        ("data", ["data.", "data="]),
        ("expected.", ["expected.knn="]),
        ("stages.nope.", []),
        ("nope", []),
        ("seed.x.y", []),
    ],
)
@pytest.mark.parametrize("form", ["--set {}", "--set={}"])
def test_paths_of_set_are_offered(
    complete: Complete, members: Path, form: str, word: str, offered: list[str]
) -> None:
    words = complete("transfer", "run", members, *form.format(word).split())
    prefix = "stages.clusters." if word == "stages.cl" else ""
    assert words == [f"nospace,{prefix}{path}" for path in offered]


def test_path_of_set_is_offered_before_the_file(complete: Complete, members: Path) -> None:
    assert complete("transfer", "run", "--set", "stages.clusters.k") == []
    offered = complete("transfer", "run", "--set", "stages.clusters.k", members, cursor=3)
    assert offered == ["nospace,stages.clusters.k="]


@pytest.mark.parametrize(
    ("word", "values"),
    [("clusters.init", ["k-means++", "random"]), ("clusters.k", []), ("nope.init", [])],
)
def test_values_of_a_choice_are_offered(
    complete: Complete, members: Path, word: str, values: list[str]
) -> None:
    path = f"stages.{word}"
    words = ["transfer", "run", members, "--set"]
    assert complete(*words, f"{path}=") == [f"plain,{path}={value}" for value in values]
    # As bash splits the word, and replaces the last piece only.
    assert complete(*words, path, "=") == [f"plain,{value}" for value in values]
    some = [value for value in values if value.startswith("r")]
    assert complete(*words, path, "=", "r") == [f"plain,{value}" for value in some]


def test_member_is_offered_in_the_pieces_of_bash(complete: Complete, members: Path) -> None:
    words = ["transfer", "run", members]
    assert complete(*words, "features[seed", "=") == ["plain,0]", "plain,1]"]
    assert complete(*words, "clusters[k", "=", "5,seed", "=", "1") == ["plain,1]"]
    assert complete("transfer", "run", members, "--set", "seed", "=", "2", "kn")[0] == "plain,knn"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["list", "t"], ["targets"]),
        (["list", "pretexts", "jig"], ["jigsaw", "jigsawpp"]),
        (["list", "pretext", "jig"], ["jigsaw", "jigsawpp"]),
        (["list", "stages", "pretext/jig"], ["pretext/jigsaw", "pretext/jigsawpp"]),
        (["list", "targets", "soft"], ["soft_label"]),
        (["list", "protocols", "kn"], ["knn"]),
        (["list", "backbones", "conv"], ["conv4"]),
        (["list", "data", "draw"], ["drawings"]),
        (["docs", "ru"], ["run"]),
        (["ini"], ["init"]),
        (["run", "x.yaml", "--dry"], ["--dry-run"]),
        (["run", "none.yaml", "x"], []),
    ],
)
def test_names_are_offered(complete: Complete, words: list[str], offered: list[str]) -> None:
    assert complete("transfer", *words) == [f"plain,{word}" for word in offered]


@pytest.mark.parametrize("text", ["", "[", "stages: 5", "stages: {a: 5, b: {uses: nope}}", "\x00"])
def test_faulty_file_prints_nothing(
    complete: Complete, pipeline: Callable[..., Path], text: str
) -> None:
    file = pipeline(text)
    assert complete("transfer", "run", file, "x") == []
    assert complete("transfer", "run", file, "--set", "stages.b.x") == []


@pytest.mark.parametrize(
    ("shell", "lines"),
    [
        ("zsh", ["plain", "clusters[k=5,seed=0]", "_", "plain", "clusters[k=5,seed=1]", "_"]),
        ("fish", ["plain,clusters[k=5,seed=0]", "plain,clusters[k=5,seed=1]"]),
    ],
)
def test_other_shells_are_served(
    complete: Complete, members: Path, shell: str, lines: list[str]
) -> None:
    offered = complete("transfer", "run", members, "clusters[k=5", shell=shell)
    assert [line.split("\t")[0] for line in offered] == lines


def test_option_and_value_in_a_word(complete: Complete, members: Path) -> None:
    words = ["transfer", "run", members]
    whole = "--set=stages.clusters.k"
    assert complete(*words, whole, shell="zsh") == ["nospace", f"{whole}=", "_"]
    assert complete(*words, whole, shell="fish") == [f"plain,{whole}="]
    pieces = ["--set", "=", "stages.clusters.init", "=", "r"]
    assert complete(*words, *pieces) == ["plain,random"]
    assert complete(*words, *pieces[:3]) == ["nospace,stages.clusters.init="]
    assert complete(*words, *pieces[:2])[0] == "nospace,name="


def test_zsh_puts_no_space_after_a_path(complete: Complete, members: Path) -> None:
    words = ["transfer", "run", members, "--set", "stages.clusters.k"]
    assert complete(*words, shell="zsh") == ["nospace", "stages.clusters.k=", "_"]


def test_completion_imports_no_heavy_library(members: Path) -> None:
    code = (
        "import sys; from transfer.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'h5py', 'faiss', 'PIL'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "_TRANSFER_COMPLETE": "bash_complete",
            "COMP_WORDS": f"transfer run {members} --set stages.clusters.k",
            "COMP_CWORD": "4",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "nospace,stages.clusters.k=\n[]\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "replies", "options"),
    [
        (["run", "{}", "features"], ["features", "features[seed=0]", "features[seed=1]"], ""),
        (["run", "{}", "--set", "stages.clusters.k"], ["stages.clusters.k="], "-o nospace"),
        (["run", "{}", "--set", "stages.clusters.init", "=", "r"], ["random"], ""),
        (["run", "mem"], [], "-o default"),
    ],
)
def test_script_of_bash_completes(
    members: Path, tmp_path: Path, words: list[str], replies: list[str], options: str
) -> None:
    (tmp_path / "features0").touch()  # what `features[seed=0]` would match as a pattern
    program = tmp_path / "transfer"
    code = "from transfer.cli import main\nmain()\n"
    program.write_text(f"#!{sys.executable}\n{code}", encoding="utf-8")
    program.chmod(0o755)
    line = " ".join(f"'{word.format(members)}'" for word in words)
    script = f"""
compopt() {{ echo "option $*"; }}
eval "$(_TRANSFER_COMPLETE=bash_source transfer)"
COMP_WORDS=(transfer {line}); COMP_CWORD={len(words)}
_transfer_completion transfer
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p transfer
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[-1] == "complete -o nosort -F _transfer_completion transfer"
    assert [line for line in lines[:-1] if not line.startswith("option")] == replies
    assert {line for line in lines if line.startswith("option")} == (
        {f"option {options}"} if options else set()
    )
