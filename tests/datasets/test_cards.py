"""The shipped cards: complete, consistent, with commands that can run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from transfer.datasets.cards import card_files, load_card
from transfer.datasets.drawings import render

SETS = [
    name for name in sorted(card_files()) if not load_card(name)[0].is_layout and name != "drawings"
]
ASKED_FOR = {
    *(
        "stl10",
        "cifar10",
        "cifar100",
        "cifar100_coarse",
        "tiny_imagenet",
        "slimagenet64",
        "imagenet",
        "imagenet100",
    ),
    *("imagenette", "places365", "voc2007", "voc2012", "fashion_mnist", "oxford_pets"),
}


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRANSFER_DATA", raising=False)


def test_there_is_a_card_for_every_set() -> None:
    assert set(SETS) >= ASKED_FOR


@pytest.mark.parametrize("name", SETS)
def test_a_shipped_card_says_all_that_a_person_needs(name: str) -> None:
    card, file = load_card(name)
    assert card.title
    assert card.license
    assert card.cite
    assert "{path}" in card.layout
    assert (
        card.fetch
        or "image-net.org" in card.layout
        or "zenodo" in card.layout
        or "ImageNet" in card.layout
    )
    assert card.splits
    recipe = card.files or card.records or card.voc
    assert recipe is not None
    assert {*card.splits} <= {*recipe.splits}
    assert len(set(card.classes)) == len(card.classes)
    assert all(len(line) <= 120 for line in card.layout.splitlines())
    assert file.name == f"{name}.yaml"


COUNTS = {
    "cifar10": 10,
    "cifar100": 100,
    "cifar100_coarse": 20,
    "stl10": 10,
    "voc2007": 20,
    "voc2012": 20,
}
COUNTS |= {"fashion_mnist": 10, "oxford_pets": 37, "imagenette": 10}


@pytest.mark.parametrize("name", COUNTS)
def test_a_card_names_all_classes(name: str) -> None:
    assert len(load_card(name)[0].classes) == COUNTS[name]


def test_the_commands_that_fetch_can_be_run() -> None:
    """Each is a single shell line, whose imports from torchvision exist."""
    import torchvision.datasets

    seen = 0
    for name in SETS:
        card, _ = load_card(name)
        message = card.absent(Path("/a place/it's here"), "gone")
        assert message.splitlines()[1].startswith("To fetch it: ") == bool(card.fetch)
        commands = re.findall(r"(?:To fetch it: |    )((?:python|curl) .*)", message)
        for command in commands:
            assert "{path}" not in command
            words = shlex.split(command)
            assert any(word.startswith("/a place/it's here") for word in words)
            if words[0] == "python":
                compile(words[2], name, "exec")
                for kind in re.findall(r"from torchvision.datasets import (\w+)", words[2]):
                    assert hasattr(torchvision.datasets, kind)
                    seen += 1
    assert seen >= 9


def test_folds_and_lists_are_splits() -> None:
    assert load_card("stl10")[0].splits["train_fold9"] == 1000
    assert load_card("imagenet")[0].splits["train_1percent"] == 12811
    assert {"train_seg", "val_seg", "trainval_seg", "test_seg"} < {*load_card("voc2007")[0].splits}


@pytest.mark.parametrize("name", sorted(card_files()))
def test_a_card_is_described_with_its_place_filled_in(tmp_path: Path, name: str) -> None:
    card, file = load_card(name)
    facts = card.described(file, tmp_path / "a place")
    assert "{path}" not in str(facts)
    assert {
        "name",
        "title",
        "reader",
        "layout",
        "splits",
        "classes",
        "license",
        "cite",
        "card",
    } <= facts.keys()
    if name in SETS:
        assert (facts["place"], facts["there"]) == (str(tmp_path / "a place"), False)
        assert f"'{tmp_path}/a place'" in facts["layout"]


@pytest.mark.parametrize("name", sorted(card_files()))
def test_every_shipped_card_can_be_read_and_bears_its_files_name(name: str) -> None:
    card, _ = load_card(name)
    assert card.name == name
    assert card.title
    assert card.layout


def test_the_card_of_drawings_says_what_is_drawn() -> None:
    card, _ = load_card("drawings")
    assert card.splits == render.SPLITS
    assert card.classes == list(render.CLASSES)
    assert card.size == render.SIZE
