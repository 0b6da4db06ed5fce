"""Commands that read results take the `--set`s of a file's last run; others name them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.small import SMALL
from tests.conftest import Said

Invoke = Callable[..., Said]
Write = Callable[..., Path]
K6 = ("--set", "stages.clusters.k=6")
STORE = ("--store", "s")
SCORED = SMALL + "  knn: {uses: evaluate/knn, model: net, k: 5}\n"


@pytest.fixture
def small(pipeline: Write, invoke: Invoke) -> Path:
    file = pipeline(SMALL, "small.yaml")
    invoke("run", file, *STORE, *K6)
    return file


@pytest.mark.parametrize(
    "words",
    [
        ["show"],
        ["show", "--json"],
        ["verify"],
        ["verify", "--json"],
        ["report", "-o", "r.html"],
        ["export", "net", "out", "--json"],
    ],
)
def test_results_are_read_as_the_last_run_made_them(
    invoke: Invoke, small: Path, words: list[str]
) -> None:
    command, *rest = words
    said = invoke(command, small, *rest, *STORE)
    first = said.err.splitlines()[0]
    assert first == f"{small} as last run, with --set stages.clusters.k=6 (without: --as-written)"
    if "--json" in rest:
        json.loads(said.out)


def test_as_written_and_set_replace_what_the_last_run_had(invoke: Invoke, small: Path) -> None:
    assert json.loads(invoke("show", small, "clusters", *STORE, "--json").out)["made"] is True
    for words in (["--as-written"], ["--set", "stages.clusters.n_init=1"]):
        said = invoke("show", small, "clusters", *STORE, "--json", *words)
        assert json.loads(said.out)["identity"]["options"]["k"] == 5
        assert said.err == ""


def test_run_and_status_name_them_and_do_not_take_them(invoke: Invoke, small: Path) -> None:
    line = f"the last run of {small} had --set stages.clusters.k=6"
    for words in (["status", "--json"], ["status"], ["run", "-n"]):
        said = invoke(words[0], small, *words[1:], *STORE)
        assert said.err.splitlines() == [line]
        assert "to run" in said.out
        if "--json" in words:
            json.loads(said.out)
    for again in (K6, ["--set", "stages.clusters.k=7"]):
        assert invoke("status", small, *STORE, *again).err == ""
    assert invoke("run", small, *STORE).err.splitlines() == [line]
    assert invoke("status", small, *STORE).err == ""  # the last run had none
    assert invoke("show", small, *STORE).err == ""
    for _ in range(2):  # from memory too
        invoke("run", small, *STORE, *K6)
        assert invoke("status", small, *STORE).err.splitlines() == [line]


def test_a_file_that_has_changed_is_read_as_written(invoke: Invoke, small: Path) -> None:
    small.write_text(SMALL.replace("k: 5", "k: 4"), encoding="utf-8")
    said = invoke("show", small, "clusters", *STORE, "--json")
    assert json.loads(said.out)["identity"]["options"]["k"] == 4
    assert "as written; it changed since its last run, which had --set stages.clusters.k=6" in (
        said.err
    )


def test_smoke_runs_have_a_last_run_of_their_own(invoke: Invoke, small: Path) -> None:
    invoke("run", small, *STORE, "--smoke", "--set", "stages.clusters.k=3")
    said = invoke("show", small, "clusters", *STORE, "--smoke", "--json")
    assert json.loads(said.out)["identity"]["options"]["k"] == 3
    assert "k=6" in invoke("show", small, *STORE).err


def test_compare_reads_each_file_by_its_own_last_run(invoke: Invoke, pipeline: Write) -> None:
    files = [pipeline(SCORED.replace("name: small", f"name: {n}"), f"{n}.yaml") for n in "ab"]
    invoke("run", files[0], "knn", *STORE, "--set", "seed=3")
    invoke("run", files[1], "knn", *STORE, "--set", "stages.clusters.k=3", "--set", "seed=4")
    said = invoke("compare", *files, *STORE, "--json")
    rows = [row for section in json.loads(said.out)["sections"] for row in section["rows"]]
    assert {seed for row in rows for seed in row["seeds"]} == {"3", "4"}
    assert [line.split(" as last run, with ")[1] for line in said.err.splitlines()[:2]] == [
        "--set seed=3 (without: --as-written)",
        "--set stages.clusters.k=3 --set seed=4 (without: --as-written)",
    ]
    assert invoke("compare", *files, *STORE, "--as-written", check=1).out == ""


def test_relative_paths_of_set_start_where_the_run_was(
    invoke: Invoke, pipeline: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    file = pipeline(SMALL.replace("card: drawings", "folder: none"), "small.yaml")
    photos = tmp_path / "here" / "my photos #1"
    photos.mkdir(parents=True)
    for number in range(24):
        Image.new("RGB", (40, 40), (10 * number, 0, 0)).save(photos / f"{number}.png")
    monkeypatch.chdir(tmp_path / "here")
    words = ("--set", "data={folder: 'my photos #1', size: 32}")
    invoke("run", file, "--store", tmp_path / "s", *words)
    monkeypatch.chdir(tmp_path)
    said = invoke("show", "small.yaml", "clusters", *STORE, "--json")
    assert json.loads(said.out)["made"] is True
    assert """--set 'data={folder: '"'"'my photos #1'"'"', size: 32}'""" in said.err
    invoke("report", "small.yaml", *STORE, "-o", "r.html")
    assert (tmp_path / "r.html").exists()


def test_photographs_without_labels_are_read_as_their_last_run_made_them(
    invoke: Invoke, pipeline: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        Image.new("RGB", (40, 40), (30 * number, 90, 200)).save(folder / f"{number}.jpg")
    file = pipeline(SCORED, "scored.yaml")
    data = ("--set", f"data={{folder: {folder}, size: 16}}")
    invoke("run", file, "features", *STORE, *data)
    for words in (["show"], ["verify"], ["report", "-o", "r.html"]):
        command, *rest = words
        said = invoke(command, file, *rest, *STORE)
        assert "only features, as last run, because of: " in said.err
        assert "'train'" in said.err
    assert "features" in invoke("show", file, *STORE).out
    assert "features" in invoke("show", file, *STORE, *data).out
    # A stage that was never asked for is not read either.
    assert "knn" not in invoke("show", file, *STORE).out
