"""What the key of a stage depends on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import TINY
from transfer.pipeline.document_nodes import Faults
from transfer.pipeline.loader import Plan, load_plan
from transfer.pipeline.yaml_document import parse
from transfer.storage.store import Store

MODEL = "model: {uses: pretext/random, backbone: conv4}"


def keys(plan: Plan) -> dict[str, str]:
    return {one.label: one.key for one in plan}


def changed(before: Plan, after: Plan) -> set[str]:
    """The stages, image sets aside, whose keys differ."""
    old, new = keys(before), keys(after)
    return {
        name
        for name in old.keys() | new.keys()
        if old.get(name) != new.get(name) and not name.startswith("drawings")
    }


AFTER_CLUSTERS = {"clusters", "labels", "target", "linear", "knn"}


ALL = {"pretext", "features", "prepared", *AFTER_CLUSTERS}


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (["stages.clusters.k=6"], AFTER_CLUSTERS),
        (["stages.clusters.seed=1"], AFTER_CLUSTERS),
        (["stages.knn.temperature=0.1"], {"knn"}),
        (["seed=1"], ALL),  # through their inputs, also those that draw nothing themselves
        (
            [
                "stages.prepared.features=features",
                "stages.clusters.features=features",
                "stages.labels.features=features",
            ],
            AFTER_CLUSTERS,
        ),
        (["data={card: drawings, limit: 65}"], ALL),
        (["stages.linear.data={card: drawings, limit: 65}"], {"linear"}),
        (["stages.pretext.backbone.width=0.25"], ALL),
        (["stages.knn.seed=7"], set()),  # it draws nothing
        (
            ["stages.clusters.n_init=1", "stages.knn.k=5", "stages.clusters.init=k-means++"],
            set(),
        ),  # written-out defaults
        (["stages.target.warmup_epochs=0"], set()),  # a whole number where a fraction may stand
        (["data={limit: 64, card: drawings, size: 64}"], set()),
        (["name=other"], set()),
    ],
)
def test_a_key_depends_on_options_seed_inputs_and_images_and_on_nothing_else(
    load: Callable[..., Plan], sets: list[str], expected: set[str]
) -> None:
    assert changed(load(TINY), load(TINY, sets=sets)) == expected


def test_a_key_does_not_depend_on_order_comments_names_or_places(
    load: Callable[..., Plan], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    before = load(TINY)
    value = parse(TINY, "file.yaml", Faults()).plain()
    stages = {name: dict(reversed(one.items())) for name, one in reversed(value["stages"].items())}
    text = "# a comment\n" + json.dumps({**dict(reversed(value.items())), "stages": stages})
    (tmp_path / "elsewhere").mkdir()
    after = load_plan(pipeline(text, "elsewhere/other.yaml"), Store(tmp_path / "another store"))
    assert keys(after) == keys(before)
    renamed = load(TINY.replace("prepared", "whitened"))
    assert {one.key for one in renamed} == {one.key for one in before}


def test_a_key_depends_on_the_version_of_the_stage(
    load: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(TINY)
    kind = type(before.find("clusters")[0].stage)
    old = keys(before)
    monkeypatch.setattr(kind, "version", kind.version + 1)
    new = keys(load(TINY))
    assert {name for name in old if old[name] != new[name]} == AFTER_CLUSTERS


def test_a_key_depends_on_the_bytes_of_the_images_and_not_on_their_folder(
    load: Callable[..., Plan], tmp_path: Path
) -> None:
    def key(folder: str, color: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), color).save(tmp_path / folder / "a.png")
        return load(f"data: ./{folder}\nstages: {{{MODEL}}}\n").find("model")[0].key

    first = key("one", "red")
    assert key("two", "red") == first
    assert key("two", "blue") != first
    assert key("one", "red") == first
