"""Inputs that are lists of stages, and inputs made from another image set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from transfer.pipeline.loader import load_plan
from transfer.storage.store import Store

SEVERAL = """
data: {card: drawings, limit: 64, size: 32}
stages:
  net: {uses: pretext/random, backbone: conv4}
  one: {uses: extract/network, model: net, layer: conv2}
  two: {uses: extract/network, model: net, layer: conv3}
  clusters: {uses: cluster, features: one, k: 4}
  x: {USES}
"""


@pytest.mark.parametrize(
    ("uses", "message"),
    [
        (
            "uses: prepare, features: [one, tow], steps: []",
            ["8:38: stages.x.features.1: no stage 'tow'; did you mean 'two'?"],
        ),
        (
            "uses: target/regression, features: [one, clusters], backbone: conv4",
            [
                "8:48: stages.x.features.1: needs Features, but 'clusters' (cluster) makes "
                "Clusters; these stages make Features: "
            ],
        ),
        (
            "uses: prepare, features: []",
            ["8:22: stages.x.features: must be the name of a stage, or a list of such names"],
        ),
        ("uses: prepare, features: [one, one]", ["8:22: stages.x.features: names 'one' twice"]),
        (
            "uses: cluster, features: [one, two], k: 4",
            ["8:22: stages.x.features: must be the name of one stage"],
        ),
        (
            "uses: target/regression, features: [x, one]",
            ["8:43: stages.x.features.0: needs Features, but 'x'"],
        ),
        (
            "uses: target/pseudo_label, labels: one",
            ["8:34: stages.x.labels: needs PseudoLabels, but 'one'"],
        ),
    ],
)
def test_what_a_list_of_stages_may_not_name_is_reported_at_its_place(
    faults: Callable[..., list[str]], uses: str, message: list[str]
) -> None:
    found = faults(SEVERAL.replace("USES", uses))
    for line in message:
        assert any(line in one for one in found), found


def test_a_list_of_stages_is_read_in_its_order(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    text = "uses: prepare, features: [one, two], steps: []"
    plan = load_plan(pipeline(SEVERAL.replace("USES", text)), Store(tmp_path))
    (found,) = plan.find("x")
    assert [one.name for one in found.inputs.values()] == ["one", "two"]
    other = load_plan(
        pipeline(SEVERAL.replace("USES", text.replace("one, two", "two, one"))), Store(tmp_path)
    )
    assert other.find("x")[0].key != found.key


OTHER_SETS = """
data: {folder: left, size: 32}
stages:
  net: {uses: pretext/random, backbone: conv4}
  one: {uses: extract/network, model: net, layer: conv2}
  two: {uses: extract/network, model: net, layer: conv2, data: {folder: right, size: 32}}
  clusters: {uses: cluster, features: one, k: 4}
  labels: {uses: assign, features: one, clusters: clusters}
  others: {uses: assign, features: two, clusters: clusters}
  x: {USES}
"""


@pytest.mark.parametrize(
    ("uses", "message"),
    [
        (
            "uses: target/pseudo_label, labels: labels, data: {folder: right, size: 32}",
            "10:34: stages.x.labels: 'labels'",
        ),
        ("uses: target/multi_label, labels: [labels, others]", "10:33: stages.x.labels: 'others'"),
        ("uses: target/regression, features: [one, two]", "10:32: stages.x.features: 'two'"),
        (
            "uses: target/similarity, features: two, data: {folder: left, size: 32}",
            "10:32: stages.x.features: 'two'",
        ),
        (
            "uses: pretext/exemplar, labels: labels, data: {folder: right, size: 32}",
            "10:31: stages.x.labels: 'labels'",
        ),
        (
            "uses: prepare, features: [one, two], steps: []",
            "10:22: stages.x.features: ",
        ),
        ("uses: prepare, features: two, like: prepared", ""),  # nothing is joined
        (
            "uses: target/pseudo_label, labels: labels, data: {folder: left, size: 24}",
            "",
        ),  # the same, packed otherwise
        ("uses: target/pseudo_label, labels: labels, data: {folder: copy, size: 32}", ""),
    ],
)
def test_images_of_another_set_are_no_others_by_the_same_names(
    faults: Callable[..., list[str]],
    pipeline: Callable[..., Path],
    tmp_path: Path,
    uses: str,
    message: str,
) -> None:
    for folder, color in (("left", 1), ("right", 2), ("copy", 1)):
        (tmp_path / folder).mkdir()
        for one in range(6):
            Image.new("RGB", (32, 32), (color, one, 0)).save(tmp_path / folder / f"{one}.png")
    text = OTHER_SETS.replace("USES", uses)
    if message:
        (found,) = faults(text)
        assert message in found
        joined_elsewhere = "uses: prepare" in uses  # a fault that the stage itself reports
        assert joined_elsewhere or "the same id names another image" in found
    else:
        text += "\n  prepared: {uses: prepare, features: one}\n"
        assert load_plan(pipeline(text), Store(tmp_path / "store")).find("x")
