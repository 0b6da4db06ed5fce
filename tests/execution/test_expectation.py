"""Expected ranges of scores: faults, keys, and the verdicts that commands print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import TINY, Said, Tiny
from transfer.execution.expectation import Expectation
from transfer.pipeline.loader import load_plan
from transfer.storage.store import Store
from transfer.utils.paths import shipped_folder


def expecting(text: str, expected: str) -> str:
    """The same file, which expects that."""
    return text.replace("seed: 0\n", f"seed: 0\nexpected: {expected}\n", 1)


@pytest.fixture
def hopeful(tiny: Tiny) -> Callable[[str], SimpleNamespace]:
    """The finished tiny pipeline with expectations, and the main figures of its scores."""

    def write(expected: str) -> SimpleNamespace:
        tiny.file.write_text(expecting(TINY, expected), encoding="utf-8")
        figures = {}
        for stage in ("linear", "knn"):
            (path,) = tiny.store.glob(f"evaluate/{stage}/*/scores.json")
            card = json.loads(path.read_text(encoding="utf-8"))
            figures[stage] = f"{card['figures'][card['main']]:.1f}"
        return SimpleNamespace(file=tiny.file, words=(tiny.file, "--store", tiny.store), **figures)

    return write


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("{linaer: [1, 2]}", "3:12: expected.linaer: no stage 'linaer'; did you mean 'linear'?"),
        (
            "{features: [1, 2]}",
            "3:12: expected.features: the stage makes Features; name one that makes",
        ),
        ("{linear: [9, 2.5]}", "3:12: expected.linear: 9 is above 2.5; write [low, high]"),
        ("{linear: [5]}", "3:12: expected.linear: should have at least 2 items, not 1 (found [5])"),
        ("{linear: 5}", "3:12: expected.linear: should be a valid list (found 5)"),
        ("{linear: [a, 5]}", "3:21: expected.linear.0: should be a valid number (found 'a')"),
        (
            "{linear: [5, 101]}",
            "3:24: expected.linear.1: should be less than or equal to 100 (found 101)",
        ),
    ],
)
def test_a_fault_is_reported_in_its_place(
    expected: str, message: str, pipeline: Callable[..., Path], invoke: Callable[..., Said]
) -> None:
    file = pipeline(expecting(TINY, expected))
    said = invoke("status", file, "--store", "store", check=2)
    assert f"{file.name}:{message}" in said.err
    assert "1 fault; nothing was started" in said.err


def test_what_is_expected_is_no_part_of_a_key(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    plain = load_plan(pipeline(TINY), store)
    hopeful = load_plan(pipeline(expecting(TINY, "{linear: [1, 2]}")), store)
    assert [one.key for one in plain] == [one.key for one in hopeful]
    assert {one.name: one.expected for one in hopeful if one.expected} == {"linear": (1, 2)}


def test_commands_say_whether_the_run_is_inside(
    hopeful: Callable[[str], SimpleNamespace], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    made = hopeful("{linear: [0, 100], knn: [99.5, 100]}")
    inside = f"expected 0 to 100 %: this run is inside (linear: {made.linear} %)"
    outside = f"expected 99.5 to 100 %: this run is outside (knn: {made.knn} %)"
    for _ in range(2):  # the second answer may be the first one, kept
        said = invoke("run", *made.words).out
        assert said.splitlines()[-3:] == ["nothing to do", inside, outside]
    assert "expected" not in invoke("run", *made.words, "features").out
    rows = {line.split()[0]: line for line in invoke("show", *made.words).out.splitlines()}
    assert rows["linear"].endswith("; expected 0 to 100 %: this run is inside")
    assert rows["knn"].endswith("; expected 99.5 to 100 %: this run is outside")
    assert "expected" not in rows["target"]
    assert (
        "  expected 0 to 100 %: this run is inside\n" in invoke("show", *made.words, "linear").out
    )
    facts = {one["stage"]: one for one in json.loads(invoke("show", *made.words, "--json").out)}
    found = facts["knn"]["expected"]
    assert (found["low"], found["high"], found["inside"]) == (99.5, 100, False)
    assert f"{found['value']:.1f}" == made.knn
    invoke("report", *made.words, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall(r'<p class="expected">(.*)</p>', page) == [inside, outside]


def test_a_stage_that_is_not_made_has_a_range_and_no_verdict(
    pipeline: Callable[..., Path], invoke: Callable[..., Said]
) -> None:
    file = pipeline(expecting(TINY, "{linear: [0, 100]}"))
    said = invoke("show", file, "--store", "store").out
    assert re.search(r"^linear +not made yet; expected 0 to 100 %$", said, re.MULTILINE)
    said = invoke("show", file, "linear", "--store", "store").out
    assert "\nexpected 0 to 100 %\nnot made yet" in said


@pytest.mark.parametrize(
    ("sets", "expects"),
    [
        (["seed=0"], True),
        (["expected.linear=[3, 4]"], True),
        (["stages.knn.k=4"], False),
        (["seed=0", "data.limit=64"], False),
    ],
)
def test_a_file_that_was_changed_for_once_expects_nothing(
    sets: list[str], expects: bool, pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    file, store = pipeline(expecting(TINY, "{linear: [0, 100]}")), Store(tmp_path / "store")
    (linear,) = load_plan(file, store, sets=sets).find("linear")
    assert (linear.expected is not None) == expects


def test_a_smoke_run_expects_nothing(pipeline: Callable[..., Path], tmp_path: Path) -> None:
    file, store = pipeline(expecting(TINY, "{linear: [0, 100]}")), Store(tmp_path / "store")
    assert not any(one.expected for one in load_plan(file, store, smoke=True))


def test_members_are_counted_in_one_line(tiny: Tiny, invoke: Callable[..., Said]) -> None:
    text = expecting(TINY, "{linear: [0, 100], knn: [99.5, 100]}")
    text = text.replace("model: target, k: 5}", "model: target, k: '${k}'}")
    text = text.replace("stages:", "matrix: {k: [4, 5]}\nstages:")
    tiny.file.write_text(text, encoding="utf-8")
    words = ("run", tiny.file, "--store", tiny.store, "--device", "cpu", "--threads", 1)
    said = invoke(*words).out.splitlines()
    assert said[-2].startswith("expected 0 to 100 %: this run is inside (linear: ")
    assert said[-1] == "expected 99.5 to 100 %: 0 of 2 runs are inside (knn)"


def test_a_figure_is_inside_as_it_is_read() -> None:
    assert Expectation("a", "a", 92, 97, 91.96).inside
    assert not Expectation("a", "a", 92, 97, 91.94).inside
    assert Expectation("a", "a", 92, 97).inside is None


def test_no_head_of_a_shipped_file_with_a_range_has_a_single_figure_of_its_own() -> None:
    """A page prints the head above its own figure, which is another on another processor."""
    for file in sorted(shipped_folder("pipelines").glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        if re.search("^expected:", text, re.MULTILINE):
            head = text[: text.index("\nname:")]
            assert not re.search(r"\d\.\d+ %", head), file.name
