"""`transfer show` and `transfer graph`: results, one stage, and what each stage reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.common import PACKS, STAGES
from tests.conftest import TINY, Said, Tiny


def test_show_gives_the_figures_of_every_stage(invoke: Callable[..., Said], finished: Tiny) -> None:
    said = invoke("show", finished.file, "--store", finished.store).out
    assert [line.split()[0] for line in said.splitlines() if line.split()[0] in STAGES] == STAGES
    assert re.search(r"^clusters .* k 5,", said, re.MULTILINE)
    unmade = invoke(
        "show", finished.file, "--store", finished.store, "--set", "stages.clusters.k=4"
    ).out
    assert re.search(r"^clusters +not made yet$", unmade, re.MULTILINE)


@pytest.mark.parametrize("stage", [*STAGES, *PACKS])
def test_show_gives_all_that_is_known_of_a_stage(
    invoke: Callable[..., Said], finished: Tiny, stage: str
) -> None:
    words = ["show", finished.file, stage, "--store", finished.store]
    said, facts = invoke(*words).out, json.loads(invoke(*words, "--json").out)
    assert said.startswith(f"{stage}  ({facts['uses']}, key {facts['key']})")
    assert Path(facts["folder"]).is_dir()
    for name, file in facts["files"].items():
        assert f"{name}  " in said
        assert (Path(facts["folder"]) / name).stat().st_size == file["size"]
    assert "figures" in said
    assert re.search(r"^on cpu.*, 1 thread, ", said, re.MULTILINE)


def test_show_of_a_stage_that_is_not_made_or_not_there(
    invoke: Callable[..., Said], finished: Tiny
) -> None:
    words = ["show", finished.file, "--store", finished.store]
    assert "not made yet" in invoke(*words, "clusters", "--set", "stages.clusters.k=4").out
    assert "no stage 'cluster'; did you mean 'clusters'?" in invoke(*words, "cluster", check=2).err
    assert "--batch needs a stage" in invoke(*words, "--batch", "x.png", check=2).err
    assert (
        "knn (evaluate/knn): has no preview; choose from: pretext, target"
        in invoke(*words, "knn", "--batch", "x.png", check=2).err
    )


def test_show_writes_a_picture_of_what_a_network_sees(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path
) -> None:
    invoke("show", finished.file, "pretext", "--store", finished.store, "--batch", "batch.png")
    assert (tmp_path / "batch.png").read_bytes().startswith(b"\x89PNG")


def test_graph_shows_what_each_stage_reads(invoke: Callable[..., Said], finished: Tiny) -> None:
    said = invoke("graph", finished.file).out
    assert re.search(r"^ +labels +PseudoLabels  <- prepared, clusters$", said, re.MULTILINE)
    order = [line.split()[0] for line in said.splitlines()]
    for one in json.loads(invoke("graph", finished.file, "--json").out):
        assert all(
            order.index(other) < order.index(one["stage"]) for other in one["reads"].values()
        )


def test_graph_as_mermaid_has_a_node_a_stage_and_an_arrow_an_input(
    invoke: Callable[..., Said], pipeline: Callable[..., Path]
) -> None:
    file = pipeline(
        "matrix: {k: [3, 4]}\n" + TINY.replace("k: 5, iterations", "k: '${k}', iterations")
    )
    found = json.loads(invoke("graph", file, "--json").out)
    lines = invoke("graph", file, "--mermaid").out.splitlines()
    assert lines[0] == "flowchart TD"
    nodes = [
        match[1] for line in lines if (match := re.fullmatch(r'  s\d+\["(.*)<br/>.*"\]', line))
    ]
    assert nodes == [one["stage"] for one in found]
    assert sum("-->" in line for line in lines) == sum(len(one["reads"]) for one in found)


FAULTY = """\
name: faulty
matrix: {k: [4, 5]}
data: {card: drawings, limit: 64}
expected: {spread: [1, 2]}
stages:
  random: {uses: pretext/random, backbone: {name: conv4, width: 0.5}}
  features: {uses: extract/network, model: random, layer: conv4, pool: 2}
  clusters: {uses: cluster, features: features, k: "${k}"}
  FAULT
"""


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("bad: {uses: pretext/nope}", "stages.bad.uses: unknown stage"),
        ("bad: {uses: nope.py:Nope}", "stages.bad.uses: the file"),
        ("bad: 5", "stages.bad: must be a mapping"),
        ("bad: {uses: cluster, features: features, k: many}", "stages.bad.k: should be"),
        ("bad: {uses: cluster, features: nope}", "stages.bad.features: no stage 'nope'"),
        ('bad: {uses: cluster, features: features, k: "${x}"}', "no matrix variable 'x'"),
        ("bad: {uses: cluster, features: features, k: 3, k: 4}", "k: key repeated"),
        ("bad: {uses: assign, features: features, clusters: bad}", "needs Clusters, but 'bad'"),
        ("bad: {uses: pretext/random, data: /nowhere, backbone: {name: conv4}}", "/nowhere"),
        ("bad name: {uses: pretext/random}", "the name of a stage may have"),
        ("spread: {uses: pretext/random, backbone: {name: conv4}}", "name one that makes Scores"),
    ],
)
def test_fault_of_another_stage_does_not_hinder(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], fault: str, problem: str
) -> None:
    text = FAULTY if "spread" in fault else FAULTY.replace("expected: {spread: [1, 2]}\n", "")
    file = pipeline(text.replace("FAULT", fault))
    assert problem in invoke("show", file, check=2).err
    assert "  pool: 2\n" in invoke("show", file, "features").out
    assert "  k: 5\n" in invoke("show", file, "clusters[k=5]").out
    assert "clusters[k=4]" in invoke("status", file, "clusters").out
    name = fault.partition(":")[0]
    if name == "bad":
        assert problem in invoke("show", file, "bad", check=2).err


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("pool: 2", "pool: many"), "stages.features.pool: "),
        (("model: random", "model: nope"), "stages.features.model: no stage 'nope'"),
        (("uses: pretext/random", "uses: pretext/nope"), "stages.random.uses: unknown stage"),
        (("name: faulty", "name: faulty\nseed: x"), "seed: should be"),
        (("limit: 64", "limit: x"), "data.limit: should be"),
        (("name: faulty", "nam: faulty"), "nam: unknown key"),
    ],
)
def test_fault_of_what_a_stage_needs_is_reported(
    invoke: Callable[..., Said],
    pipeline: Callable[..., Path],
    change: tuple[str, str],
    problem: str,
) -> None:
    text = FAULTY.replace("expected: {spread: [1, 2]}\n", "").replace("  FAULT\n", "")
    assert problem in invoke("show", pipeline(text.replace(*change)), "features", check=2).err
