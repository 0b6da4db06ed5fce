"""Python's entry: flags, errors, and what objects show of themselves."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import transfer
from tests.conftest import Said, Tiny
from transfer.api import Pipeline
from transfer.artifacts import KINDS, Artifact
from transfer.cli.run import run as run_command
from transfer.errors import LockHeld, TransferError, UsageError
from transfer.execution.results import Results, RunPlan
from transfer.storage.manifest import MANIFEST

NOT_IN_PYTHON = {"dry_run": "dry_run", "from_here": "from_", "no_wait": "wait"}
OF_LOAD = {"file", "sets", "smoke", "store"}
OF_THE_COMMAND = {"exit_code", "child"}


@pytest.fixture
def loaded(finished: Tiny) -> Pipeline:
    return transfer.load(finished.file, store=finished.store)


class Table(HTMLParser):
    """The cells of the tables of some HTML, which must be well formed."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


# Flags


def test_run_has_every_option_of_the_command() -> None:
    options = {str(parameter.name) for parameter in run_command.params}
    here = {NOT_IN_PYTHON.get(name, name) for name in options - OF_LOAD - OF_THE_COMMAND}
    assert here - set(inspect.signature(Pipeline.run).parameters) - {"again"} == set()
    assert OF_LOAD - {"file"} <= set(inspect.signature(transfer.load).parameters)


@pytest.mark.parametrize("function", [transfer.load, transfer.compare, Pipeline.run])
def test_every_argument_is_typed_and_documented(function: Callable[..., Any]) -> None:
    text = inspect.getdoc(function) or ""
    for name, parameter in inspect.signature(function).parameters.items():
        assert parameter.kind is not parameter.VAR_KEYWORD
        assert name == "self" or parameter.annotation is not parameter.empty
        assert name == "self" or re.search(rf"^ +{name}: \w", text, re.MULTILINE), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": 3}, "path: must be a path, as text or Path, not 3 (int)"),
        ({"path": ""}, "path: must be a path, as text or Path, not '' (str)"),
        ({"path": b"x.yaml"}, "not b'x.yaml' (bytes)"),
        ({"path": None}, "not None (NoneType)"),
        ({"smoke": 1}, "smoke: must be True or False, not 1 (int)"),
        ({"sets": 3}, "sets: must be a list of texts, such as ['stages.clusters.k=100'], not 3"),
        ({"sets": [3]}, "sets: must be a list of texts"),
        ({"store": 5}, "store: must be a path"),
        ({"stages": [None]}, "stages: must be a list of texts, such as ['clusters'], not None"),
        ({"stages": "lnear"}, "no stage 'lnear'; did you mean 'linear'?"),
    ],
)
def test_a_wrong_argument_of_load_is_a_plain_error(
    arguments: dict[str, Any], message: str, finished: Tiny
) -> None:
    values = {"path": finished.file, "store": finished.store, **arguments}
    with pytest.raises(UsageError, match=re.escape(message)):
        transfer.load(**values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jobs": 0}, "jobs: must be a whole number from 1, not 0 (int)"),
        ({"jobs": "2"}, "jobs: must be a whole number from 1, not '2' (str)"),
        ({"jobs": True}, "jobs: must be a whole number from 1, not True (bool)"),
        ({"threads": 1.5}, "threads: must be a whole number from 1, not 1.5 (float)"),
        ({"precision": "float16"}, "precision: unknown value 'float16'; did you mean 'bfloat16'?"),
        ({"precision": 16}, "precision: must be one of 'auto', 'float32', 'bfloat16', not 16"),
        ({"device": 0}, "device: must be a text, such as 'cuda:0', not 0 (int)"),
        ({"save_every": "x"}, "save_every: must be a number from 0, not 'x' (str)"),
        ({"save_every": float("nan")}, "save_every: must be a number from 0, not nan (float)"),
        ({"force": "no"}, "force: must be True or False, not 'no' (str)"),
        ({"dry_run": 1}, "dry_run: must be True or False, not 1 (int)"),
        ({"device": "cuda:99", "force": True}, "--device cuda:99: not available"),
    ],
)
def test_a_wrong_argument_of_run_is_a_plain_error(
    arguments: dict[str, Any], message: str, loaded: Pipeline
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        loaded.run(**arguments)


def test_a_stage_that_is_no_text_is_a_plain_error(loaded: Pipeline) -> None:
    with pytest.raises(UsageError, match="stages: must be a list of texts"):
        loaded.run(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'frce'"):
        loaded.run(frce=True)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("stages", "flags", "expected"),
    [
        ((), {}, {}),
        ((), {"force": True}, {"target": "to run", "pretext": "to run", "knn": "to run"}),
        (("clusters",), {"force": True}, {"clusters": "to run"}),
        (("clusters",), {"force": True, "from_": True}, {"clusters": "to run", "knn": "to run"}),
        (("knn",), {"only": True}, {}),
    ],
)
def test_a_dry_run_is_a_plan_and_starts_nothing(
    stages: tuple[str, ...], flags: dict[str, bool], expected: dict[str, str], loaded: Pipeline
) -> None:
    before = sorted(loaded.store.root.rglob("*"))
    plan = loaded.run(*stages, dry_run=True, **flags)  # type: ignore[call-overload]
    assert isinstance(plan, RunPlan)
    statuses = {status.planned.name: status.status for status in plan}
    assert {name: statuses[name] for name in expected} == expected
    assert bool(plan.pending) == bool(expected)
    assert len(plan) == len(statuses) == len(plan[:])
    if flags.get("only"):
        assert "pretext" not in statuses
    assert sorted(loaded.store.root.rglob("*")) == before
    assert ("nothing to do" in repr(plan)) == (not expected)


def test_run_returns_the_artifact_of_each_selected_stage(loaded: Pipeline) -> None:
    results = loaded.run("clusters", quiet=True)
    assert isinstance(results, Results)
    assert [name for name in results if "/" not in name] == [
        "pretext",
        "features",
        "prepared",
        "clusters",
    ]
    with pytest.raises(KeyError, match="no result 'cluster'; did you mean 'clusters'"):
        results["cluster"]


@pytest.mark.slow
def test_stages_run_with_their_flags_and_give_signals_back(tiny: Tiny) -> None:
    pipeline = transfer.load(tiny.file, store=tiny.store, sets=["stages.knn.k=3"])
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert [s.planned.name for s in pipeline.run(dry_run=True).pending] == ["knn"]
    folder = pipeline.run("knn", quiet=True, threads=1, device="cpu")["knn"].folder
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    made = (folder / MANIFEST).stat().st_mtime_ns
    pipeline.run("knn", force=True, only=True, quiet=True, threads=1, precision="float32")
    assert (folder / MANIFEST).stat().st_mtime_ns > made
    results: list[Results] = []
    thread = threading.Thread(
        target=lambda: results.append(pipeline.run("knn", force=True, quiet=True, threads=1))
    )
    thread.start()
    thread.join()
    assert "knn" in results[0]


def test_no_wait_raises(tiny: Tiny) -> None:
    pipeline = transfer.load(tiny.file, store=tiny.store)
    key = pipeline.stage("knn").key

    def nothing(*_: Any) -> None:
        return None

    with (
        pipeline.store.lock(key, wait=True, waiting=nothing, pause_point=nothing),
        pytest.raises(LockHeld),
    ):
        pipeline.run("knn", force=True, wait=False, quiet=True, threads=1)


# Figures


def test_every_artifact_has_its_figures_as_a_plain_dict(loaded: Pipeline) -> None:
    results = loaded.run(quiet=True)
    assert {type(artifact) for artifact in results.values()} == set(KINDS.values())
    for label, artifact in results.items():
        assert type(artifact.figures) is dict
        manifest = json.loads((artifact.folder / MANIFEST).read_text(encoding="utf-8"))
        card = artifact.folder / "scores.json"
        expected = json.loads(card.read_text("utf-8")) if card.exists() else manifest
        assert artifact.figures == expected["figures"], label
        assert artifact.figures, label
        for name in artifact.figures:
            assert name in repr(artifact)


def test_a_folder_outside_of_a_store_has_no_figures(loaded: Pipeline, tmp_path: Path) -> None:
    folder = loaded.artifact("pretext").folder
    for name in ("model.json", "model.safetensors"):
        shutil.copyfile(folder / name, tmp_path / name)
    model = transfer.load_model(tmp_path)
    assert model.figures == {}
    assert "conv4" in repr(model)
    (tmp_path / "model.json").write_text("{", encoding="utf-8")
    assert "cannot be read" in repr(transfer.load_model(tmp_path))


# Representations


def handed_out(loaded: Pipeline) -> Iterator[tuple[str, Any]]:
    """Everything that the entry hands out, with a name."""
    results = loaded.run(quiet=True)
    yield from (("pipeline", loaded), ("plan", loaded.plan), ("results", results))
    yield "dry run", loaded.run(dry_run=True, force=True)
    yield "statuses", loaded.statuses()
    yield "stage", loaded.stage("clusters")
    yield "comparison", loaded.compare()
    yield "comparison of files", transfer.compare([loaded])
    yield from results.items()
    model = transfer.load_model(results["target"].folder)
    yield from (("loaded model", model), ("network", model.network()))
    yield "embedding", model.embedding()


def parts(name: str, value: Any, depth: int = 2) -> Iterator[tuple[str, Any]]:
    """A value with its public attributes, and theirs."""
    yield name, value
    if depth == 0 or type(value).__module__.partition(".")[0] not in ("transfer", "stages"):
        return
    for attribute in dir(value):
        if attribute.startswith("_") or isinstance(value, transfer_modules()):
            continue
        try:
            part = getattr(value, attribute)
        except (AttributeError, TransferError, NotImplementedError, OSError):
            continue
        if not callable(part) and not isinstance(part, types.ModuleType):
            yield from parts(f"{name}.{attribute}", part, depth - 1)


def transfer_modules() -> tuple[type, ...]:
    """Classes whose attributes are those of a library."""
    from pydantic import BaseModel
    from torch import nn

    return (nn.Module, BaseModel)


def test_nothing_prints_its_address(loaded: Pipeline) -> None:
    seen = 0
    for start, value in handed_out(loaded):
        for name, part in parts(start, value):
            seen += 1
            for text in (repr(part), str(part), f"{part}"):
                assert not re.search(r" at 0x[0-9a-f]+", text), f"{name}: {text[:300]}"
    assert seen > 100


def test_tables_in_text_and_html_hold_the_same(loaded: Pipeline) -> None:
    shown = 0
    for name, value in handed_out(loaded):
        if not hasattr(value, "_repr_html_"):
            continue
        shown += 1
        html = Table(value._repr_html_())
        assert html.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td"}
        text = " ".join(repr(value).split())
        for row in html.rows:
            for cell in row:
                assert " ".join(cell.split())[:60] in text, f"{name}: {cell}"
    assert shown >= 12


def test_names_of_users_are_escaped(pipeline: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)<" / "a&b"
    folder.mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (40, 40), (i, 2, 3)).save(folder / f"{i}.png")
    file = pipeline(
        f"name: x\ndata: {{folder: '{folder}', size: 32}}\nstages:\n"
        "  net: {uses: pretext/random, backbone: conv4}\n"
    )
    loaded = transfer.load(file, store=tmp_path / "<b>store</b>")
    for value in (loaded, loaded.plan, loaded.run(dry_run=True)):
        html = value._repr_html_()
        assert "<script>" not in html
        assert "<b>" not in html
        Table(html)


def test_long_tables_are_cut_in_text_and_html(pipeline: Callable[..., Path]) -> None:
    file = pipeline(
        "name: x\ndata: {card: drawings, limit: 64}\nseed: ${seed}\nmatrix: {seed: "
        f"{list(range(80))}}}\nstages:\n  net: {{uses: pretext/random, backbone: conv4}}\n"
    )
    plan = transfer.load(file).plan
    assert "and 21 more" in repr(plan)
    assert "and 21 more" in plan._repr_html_()
    assert len(plan) == 81


def test_a_damaged_artifact_says_so(tiny: Tiny) -> None:
    pipeline = transfer.load(tiny.file, store=tiny.store)
    clusters = pipeline.artifact("clusters")
    (clusters.folder / MANIFEST).write_text("{}", encoding="utf-8")
    assert "manifest.json cannot be read" in repr(clusters)
    assert "damaged" in repr(pipeline)
    assert isinstance(Artifact(tiny.store).figures, dict)


# Comparison


def test_a_comparison_prints_what_the_command_prints(
    loaded: Pipeline, finished: Tiny, invoke: Callable[..., Said]
) -> None:
    words = ("compare", finished.file, "--store", finished.store)
    comparison = loaded.compare()
    assert f"{comparison}\n" == invoke(*words).out
    assert repr(comparison) == str(comparison)
    for form in ("json", "csv", "markdown", "latex"):
        text = getattr(comparison, f"to_{form}")()
        assert f"{text}\n" == invoke(*words, f"--{form}").out
    sections = json.loads(comparison.to_json())["sections"]
    assert comparison.rows == [row for section in sections for row in section["rows"]]
    assert list(comparison) == comparison.rows
    assert len(comparison) == len(comparison.rows) == 2
    assert [row["protocol"] for row in loaded.compare(stages="knn")] == [
        row["protocol"] for row in comparison if row["protocol"].startswith("knn")
    ]
    assert len(loaded.compare(protocols=["linear"])) == 1


def test_pipelines_and_files_are_compared(
    loaded: Pipeline, finished: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFER_STORE", str(finished.store))
    assert len(transfer.compare([finished.file])) == 2
    assert len(transfer.compare((loaded, loaded))) == 2
    for wrong in ([], "x.yaml", 3, None):
        with pytest.raises(UsageError, match="pipelines: must be a list of pipelines or paths"):
            transfer.compare(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="path: must be a path"):
        transfer.compare([3])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="paired: must be True or False"):
        loaded.compare(paired=1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no evaluation stage 'nope'"):
        loaded.compare(stages=["nope"])


def test_a_frame_needs_pandas_and_has_the_columns_of_csv(
    loaded: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pandas is missing; pip install pandas"):
        loaded.compare().to_pandas()
    library = types.ModuleType("pandas")
    library.DataFrame = lambda records: records  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", library)
    comparison = loaded.compare()
    frame = comparison.to_pandas()
    assert list(frame[0]) == comparison.to_csv().splitlines()[0].split(",")
    assert [row["mean"] for row in frame] == [row["mean"] for row in comparison.rows]
    assert frame[0]["values"] == comparison.rows[0]["values"]
