"""`transfer list`: stages, pretexts, backbones and image sets with their options."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Said
from transfer.datasets.cards import card_files
from transfer.models import backbone_names
from transfer.models.timm_backbone import SMALL
from transfer.stage.registry import stage_names


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("stages", stage_names()),
        ("pretexts", [name for name in stage_names() if name.startswith("pretext/")]),
        ("targets", [name for name in stage_names() if name.startswith("target/")]),
        ("protocols", [name for name in stage_names() if name.startswith("evaluate/")]),
        ("backbones", [*backbone_names(), *SMALL]),
        ("data", sorted(card_files())),
    ],
)
def test_list_shows_every_name_and_with_a_name_every_option(
    invoke: Callable[..., Said], what: str, names: list[str]
) -> None:
    listed = [line for line in invoke("list", what).out.splitlines() if not line.startswith(" ")]
    assert sorted(line.split()[0] for line in listed) == sorted(names)
    assert [one["name"] for one in json.loads(invoke("list", what, "--json").out)] == [
        line.split()[0] for line in listed
    ]
    for name in names:
        text, facts = (
            invoke("list", what, name).out,
            json.loads(invoke("list", what, name, "--json").out),
        )
        assert text.startswith(name)
        for option in facts["options"]:
            assert option["help"], f"{name}: {option['name']} has no help"
            assert option["type"], f"{name}: {option['name']} has no type"
            assert re.search(
                rf"^  {option['name']} +{re.escape(option['help'][:40])}", text, re.MULTILINE
            )


def test_list_gives_type_bounds_and_default_of_an_option(invoke: Callable[..., Said]) -> None:
    said = invoke("list", "stages", "cluster").out
    assert re.search(r"k +number of clusters\n +\(whole number, >= 2, default 2000\)", said)
    assert "(stage that makes Features, required)" in said
    assert "(k-means++ | random, default k-means++)" in said
    assert (
        invoke("list", "pretexts", "jigsawpp").out
        == invoke("list", "stages", "pretext/jigsawpp").out
    )


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["pretext"], ["pretexts"]),
        (["pretext", "jigsawpp"], ["stages", "pretext/jigsawpp"]),
        (["targets", "soft_label"], ["stages", "target/soft_label"]),
        (["target", "target/soft_label"], ["stages", "target/soft_label"]),
        (["protocol", "knn"], ["stage", "evaluate/knn"]),
        (["backbone", "conv4"], ["backbones", "conv4"]),
    ],
)
def test_list_takes_short_and_singular_names(
    invoke: Callable[..., Said], words: list[str], same: list[str]
) -> None:
    assert invoke("list", *words).out == invoke("list", *same).out


def test_list_of_something_else_names_the_choices(invoke: Callable[..., Said]) -> None:
    assert "'targets', 'protocols'" in invoke("list", "models", check=2).err
    said = invoke("list", "targets", "soft_labels", check=2).err
    assert "did you mean 'target/soft_label'?" in said


def test_list_of_pretexts_says_the_task_its_paper_and_what_it_needs(
    invoke: Callable[..., Said],
) -> None:
    said = invoke("list", "pretexts").out
    paper = "Noroozi, Vinjimoor, Favaro & Pirsiavash, CVPR 2018"
    task = rf"^pretext/jigsawpp +\S.*\n +{paper}$"
    assert re.search(task, said, re.MULTILINE)
    found = {one["name"]: one for one in json.loads(invoke("list", "pretexts", "--json").out)}
    assert found["pretext/jigsawpp"]["paper"] == paper
    assert found["pretext/supervised"]["needs"] == "labels"
    assert f"needs {found['pretext/pretrained']['needs']}" in said
    assert all(one["line"] and one["line"] in said for one in found.values())


def test_list_knows_the_cards_beside_the_user(invoke: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    card = "name: mine\ntitle: my own pictures\nreader: folder\nlayout: flat\npath: pictures\n"
    (tmp_path / "data" / "mine.yaml").write_text(card, encoding="utf-8")
    assert "my own pictures" in invoke("list", "data").out
