"""`matrix:`: which members there are, what they are called, and what they share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transfer.errors import UsageError
from transfer.pipeline.document_nodes import Faults
from transfer.pipeline.loader import Plan, load_plan
from transfer.pipeline.matrix import MAX_MEMBERS as MAX
from transfer.pipeline.matrix import expand
from transfer.pipeline.yaml_document import parse
from transfer.storage.store import Store
from transfer.utils.formatting import member_label

STAGES = """
data: {card: drawings, limit: 32}
stages:
  model: {uses: pretext/random, backbone: {name: conv4, width: "${w}"}}
  features: {uses: extract/network, model: model}
  clusters: {uses: cluster, features: features, k: "${k}"}
"""


def members(text: str) -> list[dict[str, Any]]:
    faults = Faults()
    found = expand(parse(f"matrix: {text}", "file.yaml", faults).value["matrix"], faults)
    faults.raise_if_any()
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a: [1, 2]}", ["a=1", "a=2"]),
        ("{a: [1, 2], b: [x, y]}", ["a=1,b=x", "a=1,b=y", "a=2,b=x", "a=2,b=y"]),
        ("{a: [1, 2], b: [x, y], exclude: [{a: 1, b: y}]}", ["a=1,b=x", "a=2,b=x", "a=2,b=y"]),
        ("{a: [1, 2], b: [x, y], exclude: [{a: 1}]}", ["a=2,b=x", "a=2,b=y"]),
        ("{a: [1, 2], exclude: [{}]}", ["a=1", "a=2"]),
        ("{a: [1, 2], include: [{a: 1, c: z}]}", ["a=1,c=z", "a=2"]),
        ("{a: [1, 2], include: [{c: z}]}", ["a=1,c=z", "a=2,c=z"]),
        ("{a: [1, 2], include: [{c: z}, {a: 2, c: y}]}", ["a=1,c=z", "a=2,c=y"]),
        ("{a: [1, 2], include: [{a: 3, c: z}]}", ["a=1", "a=2", "a=3,c=z"]),
        ("{a: [1], include: [{a: 3}, {a: 3, c: z}]}", ["a=1", "a=3", "a=3,c=z"]),
        ("{include: [{a: 3}, {b: 4}]}", ["a=3", "b=4"]),
        ("{a: [1], exclude: [{a: 1}], include: [{b: 4}]}", ["b=4"]),
        ("{a: [true, null, 1e-3, no]}", ["a=true", "a=null", "a=0.001", "a=no"]),
    ],
)
def test_members_are_those_of_ci_files(text: str, expected: list[str]) -> None:
    assert [member_label(member) for member in members(text)] == expected


def test_a_file_without_a_matrix_has_one_member_without_a_name() -> None:
    assert expand(None, Faults()) == [{}]
    assert member_label({}) == ""


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("5", "1:9", "matrix: must map variables to lists of values"),
        ("[a, b]", "1:9", "matrix: must map variables to lists of values"),
        ("{}", "1:9", "matrix: has no members"),
        ("{a: 5}", "1:10", "matrix.a: must be a list of plain values"),
        ("{a: [1, [2]]}", "1:10", "matrix.a: must be a list of plain values"),
        ("{a: [], b: [1]}", "1:10", "matrix.a: is an empty list"),
        ("{a: [1], include: {a: 2}}", "1:18", "matrix.include: must be a list of mappings"),
        ("{a: [1], include: [a]}", "1:18", "matrix.include: must be a list of mappings"),
        (
            "{a: [1], include: [{b: [1]}]}",
            "1:18",
            "matrix.include: must be a list of mappings of variables",
        ),
        ("{a: [1], exclude: [{a: 1}]}", "1:9", "matrix: has no members"),
        (
            "{method: [1], exclude: [{metod: 1}]}",
            "1:34",
            "matrix.exclude: no matrix variable 'metod'; did you",
        ),
        (
            f"{{a: {list(range(101))}, b: {list(range(100))}}}",
            "1:9",
            f"matrix: has 10,100 members, more than {MAX:,}",
        ),
    ],
)
def test_a_faulty_matrix_is_reported_with_its_place(text: str, place: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        members(text)
    assert str(caught.value).startswith(f"file.yaml:{place}: {words}")


def test_all_faults_of_a_matrix_and_of_its_stages_are_reported_together() -> None:
    with pytest.raises(UsageError, match="3 faults"):
        members("{a: 1, b: [], exclude: [{c: 1}]}")


@pytest.fixture
def plan(pipeline: Callable[..., Path], tmp_path: Path) -> Callable[[str], Plan]:
    return lambda head: load_plan(pipeline(f"{head}\n{STAGES}"), Store(tmp_path / "store"))


def test_members_share_the_stages_that_do_not_depend_on_a_variable(
    plan: Callable[[str], Plan],
) -> None:
    found = plan("matrix: {w: [0.5, 1], k: [5, 6]}")
    assert [one.label for one in found] == [
        "drawings/unlabeled",
        "model[w=0.5]",
        "features[w=0.5]",
        "clusters[w=0.5,k=5]",
        "clusters[w=0.5,k=6]",
        "model[w=1]",
        "features[w=1]",
        "clusters[w=1,k=5]",
        "clusters[w=1,k=6]",
    ]
    assert len({one.key for one in found}) == len(list(found))
    assert [len(found.names[name]) for name in ("model", "features", "clusters")] == [2, 2, 4]


def test_a_stage_is_called_and_keyed_alike_whatever_other_members_there_are(
    plan: Callable[[str], Plan],
) -> None:
    many, few = plan("matrix: {w: [0.5, 1], k: [5, 6]}"), plan("matrix: {w: [1], k: [6]}")
    keys = {one.label: one.key for one in many}
    assert {one.label: one.key for one in few}.items() <= keys.items()


def test_members_that_come_out_the_same_are_one_stage(plan: Callable[[str], Plan]) -> None:
    found = plan("matrix: {w: [1], k: [5], include: [{w: 1.0, k: 5}]}")
    assert len(list(found)) == 4
    assert plan("matrix: {w: [1], k: [5, 5]}").find("clusters")[0].label == "clusters[w=1,k=5]"


def test_a_member_is_found_by_its_stage_its_label_and_its_key(plan: Callable[[str], Plan]) -> None:
    found = plan("matrix: {w: [1], k: [5, 6]}")
    both = found.find("clusters")
    assert [one.stage.k for one in both] == [5, 6]
    assert found.find("clusters[w=1,k=6]") == [both[1]]
    assert found.find(both[0].key) == [both[0]]
    with pytest.raises(UsageError, match=r"no stage 'cluster'; did you mean 'clusters'\?"):
        found.find("cluster")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("clusters[k=6]", ["clusters[w=0.5,k=6]", "clusters[w=1,k=6]"]),
        ("clusters[w=1]", ["clusters[w=1,k=5]", "clusters[w=1,k=6]"]),
        ("clusters[k=5,w=1]", ["clusters[w=1,k=5]"]),
        ("model[w=0.5]", ["model[w=0.5]"]),
    ],
)
def test_some_of_its_values_name_all_members_that_have_them(
    plan: Callable[[str], Plan], asked: str, expected: list[str]
) -> None:
    assert [one.label for one in plan("matrix: {w: [0.5, 1], k: [5, 6]}").find(asked)] == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("clusters[k=7]", "clusters has no member with 'k=7'; did you mean 'k="),
        ("clusters[w=1, k=foo]", "clusters has no member with 'k=foo'; choose from: k=5"),
        ("clusters[]", "clusters has no member with ''; choose from: k=5, k=6, w=0.5, w=1"),
        ("clusters[k=5", "clusters has no member with '[k=5'"),
        ("clusters[k=5,k=6]", "none with all"),
        ("model[k=5]", "model has no member with 'k=5'; choose from: w=0.5, w=1"),
        ("model[", "model has no member with '['"),
        ("mode[w=1]", "did you mean 'model'?"),
        ("[k=5]", "no stage '[k=5]'; choose from: clusters, features, model"),
    ],
)
def test_of_values_that_no_member_has_the_wrong_one_is_named(
    plan: Callable[[str], Plan], asked: str, message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        plan("matrix: {w: [0.5, 1], k: [5, 6]}").find(asked)


def test_what_members_share_answers_to_the_values_of_each(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    text = f"matrix: {{w: [1], k: [300, 400]}}\n{STAGES}"
    small = load_plan(
        pipeline(text), Store(tmp_path / "store"), smoke=True
    )  # which caps both at the same k
    (shared,) = small.find("clusters")
    assert small.find("clusters[k=300]") == small.find("clusters[w=1,k=400]") == [shared]


def test_a_variable_may_stand_in_the_seed_the_image_set_and_the_method(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    text = """
    matrix: {seed: [1, 2], limit: [32, 64], kind: [random]}
    seed: ${seed}
    data: {card: drawings, limit: "${limit}"}
    stages: {model: {uses: "pretext/${kind}", backbone: conv4}}
    """
    found = load_plan(pipeline(text), Store(tmp_path / "store"))
    models = found.find("model")
    assert [(one.seed, one.images["images"].stage.count) for one in models] == [
        (1, 32),
        (1, 64),
        (2, 32),
        (2, 64),
    ]
    assert len({one.label for one in found}) == len(list(found)) == 6


def test_a_variable_that_a_member_lacks_is_a_fault(plan: Callable[[str], Plan]) -> None:
    with pytest.raises(UsageError, match=r":6:64: no matrix variable 'w'"):
        plan("matrix: {k: [5]}\n")


def test_a_faulty_matrix_hides_no_fault_of_the_stages(plan: Callable[[str], Plan]) -> None:
    with pytest.raises(UsageError) as caught:
        plan("matrix: {w: 5, k: [1]}\nsead: 0")
    lines = str(caught.value).splitlines()
    assert [line.split(":", 3)[3].split(":")[0].strip() for line in lines[:-1]] == [
        "matrix.w",
        "sead",
        "stages.clusters.k",
    ]
