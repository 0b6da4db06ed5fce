"""Cards beside a pipeline file: they work without code, and their faults are reported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import fill, split_of, write_h5
from tests.datasets.miniature import jpegs, settle, text
from tests.datasets.readers.record_files import cifar10_python, stl10, unpack
from transfer.artifacts import Images
from transfer.datasets.cards import Card, load_card, read_card
from transfer.datasets.image_sets import ImageSets
from transfer.datasets.packed.decode import decode
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.spec import ImageSpec
from transfer.errors import UsageError
from transfer.utils.paths import shipped_folder

OWN = """\
name: birds
title: birds of my garden
reader: files
layout: pictures in birds/, and a list
license: mine
files:
  codes: [robin, wren]
  splits:
    train: {list: list.csv, header: true, line: "{image},{class}"}
    unlabeled: {pictures: more}
"""


def write_own(folder: Path, text_of: str = OWN, name: str = "birds") -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    path = folder / "data" / f"{name}.yaml"
    path.write_text(text_of, encoding="utf-8")
    return path


@pytest.mark.parametrize("folder", [".", "pipelines"])
def test_a_card_beside_the_pipeline_works_without_code(
    tmp_path: Path, packed: Callable[..., Images], folder: str
) -> None:
    write_own(tmp_path)
    place = tmp_path / "data" / "birds"
    written = jpegs(place, "a/1.jpg", "a/2 b.jpg", "more/x/3.jpg")
    text(place / "list.csv", "image,class", "a/2 b.jpg,robin", "a/1.jpg,wren")
    pack = ImageSets(tmp_path / "memory", tmp_path / folder).pack(
        ImageSpec(card="birds", size=20), "train", True
    )
    images = packed(pack)
    assert images.labels is not None
    assert (images.ids, images.labels.tolist(), images.classes) == (
        ["a/2 b.jpg", "a/1.jpg"],
        [0, 1],
        ["robin", "wren"],
    )
    center = decode(written["a/2 b.jpg"])[:, 2:22]
    assert np.abs(images.pixels[0].astype(int) - center).max() <= 1
    other = ImageSets(tmp_path / "memory", tmp_path / folder).pack(
        ImageSpec(card="birds", size=20), "unlabeled", False
    )
    assert packed(other, "other").labels is None


def test_a_folder_or_an_hdf5_file_may_have_a_card(
    tmp_path: Path, sets: Callable[[], ImageSets]
) -> None:
    write_own(
        tmp_path, "name: pets\ntitle: t\nreader: folder\nlayout: as it is\nsize: 48\n", "pets"
    )
    jpegs(tmp_path / "data" / "pets", "train/cat/1.jpg", "test/cat/2.jpg")
    assert sets().pack(ImageSpec(card="pets"), "test", labeled=True).size == 48
    write_own(tmp_path, "name: h\ntitle: t\nreader: hdf5\nlayout: as it is\npath: ../x.h5\n", "h")
    what = f"image set 'h' is missing: {tmp_path}/x.h5 does not exist\n.*\n  as it is\nIf"
    with pytest.raises(UsageError, match=what):
        sets().survey(ImageSpec(card="h"))
    write_h5(tmp_path / "x.h5", train=split_of(4))
    assert sets().survey(ImageSpec(card="h")).splits["train"].count == 4


def test_two_cards_of_one_name_are_told_with_both_files(tmp_path: Path) -> None:
    path = write_own(tmp_path, OWN.replace("birds\n", "cifar10\n", 1), "cifar10")
    with pytest.raises(UsageError, match="two cards are called 'cifar10'") as refusal:
        load_card("cifar10", tmp_path)
    assert str(path) in str(refusal.value)
    assert str(shipped_folder("data") / "cifar10.yaml") in str(refusal.value)
    assert load_card("stl10", tmp_path)[0].name == "stl10"
    write_own(tmp_path)
    write_own(tmp_path / "pipelines")
    load_card("birds", tmp_path / "pipelines")  # the same bytes, as in two installations
    write_own(tmp_path / "pipelines", OWN + "# mine\n")
    with pytest.raises(UsageError, match="two cards are called 'birds'"):
        load_card("birds", tmp_path / "pipelines")


def test_one_card_by_two_ways_is_one(tmp_path: Path) -> None:
    write_own(tmp_path)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "data").symlink_to(tmp_path / "data")
    assert load_card("birds", tmp_path / "pipelines")[0].title == "birds of my garden"
    assert load_card("cifar10", shipped_folder("data").parent / "pipelines")[0].name == "cifar10"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("license: mine", "licence: mine"), "`licence` is called `license`"),
        (("license: mine", "licens: mine"), "licens: no such key; did you mean 'license'?"),
        (("reader: files", "reader: file"), r"reader: Input should be .*'files'"),
        (
            ("reader: files", "reader: records"),
            "`files` is for reader: files, but this card has reader: records",
        ),
        (("files:\n", "tar:\n"), "tar.splits.train: "),
        (("name: birds", "name: bird"), "`name` is 'bird' but must equal the file name, 'birds'"),
        (("pictures: more", "picture: more"), r"files.splits.unlabeled.0.picture: no such key"),
        (
            ("pictures: more", "pictures: more, folders: x"),
            "files.splits.unlabeled.0: give exactly one of folders, pictures, list",
        ),
        (("codes: [robin, wren]", "codes: 3"), "files.codes"),
        (("header: true", "header: perhaps"), "files.splits.train.0.header: "),
        (("  splits:", "  split:"), "files.splits: Field required"),
        (("title: birds of my garden\n", ""), "title: Field required"),
        (("files:\n", "files: &a {x: *a}\n"), "birds.yaml: "),
        (("robin, wren", "robin, robin"), "has the class 'robin' twice"),
    ],
)
def test_a_faulty_card_is_told_with_its_file_and_its_key(
    tmp_path: Path, sets: Callable[[], ImageSets], change: tuple[str, str], message: str
) -> None:
    path = write_own(tmp_path, OWN.replace(*change))
    jpegs(tmp_path / "data" / "birds", "a/1.jpg", "more/2.jpg")
    text(tmp_path / "data" / "birds" / "list.csv", "image,class", "a/1.jpg,wren")
    with pytest.raises(UsageError, match=message) as refusal:
        sets().pack(ImageSpec(card="birds"), "train", labeled=True)
    assert str(path.parent) in str(refusal.value)


def recipe(**changes: Any) -> str:
    """A card of records with a fault."""
    block = {"images": ["x.bin"], **changes.pop("block", {})}
    card = {"shape": [3, 8, 8], "axes": "CHW", "splits": {"train": block}, **changes}
    return f"name: r\ntitle: t\nreader: records\nlayout: l\nrecords: {card}\n".replace(
        "True", "true"
    )


@pytest.mark.parametrize(
    ("text_of", "message"),
    [
        (recipe(axes="WHC"), "records.axes: "),
        (recipe(shape=[8, 8]), "shape must have a side for each letter of axes"),
        (recipe(shape=[4, 8, 8]), "1 or 3 channels"),
        (recipe(block={"images": []}), "records.splits.train.0.images: "),
        (recipe(block={"format": "pickled"}), "format pickled needs keys"),
        (
            recipe(block={"label_bytes": 1, "labels": ["y"]}),
            "labels are either in separate files",
        ),
        (recipe(block={"label_bytes": 1, "label_byte": 1}), "label_byte must be below label_bytes"),
        (recipe(splits={}), "records.splits: "),
        (
            "name: r\ntitle: t\nreader: voc\nlayout: l\n",
            "reader: voc needs a section `voc:` that describes each split",
        ),
    ],
)
def test_a_faulty_recipe_is_told(tmp_path: Path, text_of: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(text_of)
    with pytest.raises(UsageError, match=message) as refusal:
        read_card(tmp_path / "r.yaml")
    assert str(refusal.value).startswith(str(tmp_path / "r.yaml"))


def test_every_key_of_a_card_has_a_description() -> None:
    assert all(field.description for field in Card.model_fields.values())


def test_planning_with_a_card_imports_no_heavy_library(
    tmp_path: Path, sets: Callable[[], ImageSets]
) -> None:
    files, _ = cifar10_python()
    unpack(tmp_path / "cifar", files)
    jpegs(tmp_path / "nette" / "x", "1.jpg")
    settle()
    sets().pack(ImageSpec(card="cifar10", path="cifar"), "train", labeled=True)
    code = (
        "import sys; from pathlib import Path\n"
        "from transfer.datasets.image_sets import ImageSets\n"
        "from transfer.datasets.spec import ImageSpec\n"
        "sets = ImageSets(Path('memory'), Path.cwd())\n"
        "pack = sets.pack(ImageSpec(card='cifar10', path='cifar'), 'train', True)\n"
        "assert pack.facts.count == 20\n"
        "heavy = {'numpy', 'torch', 'h5py', 'PIL', 'scipy', 'torchvision'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("\n", "")


def test_planning_is_the_same_in_every_process(
    tmp_path: Path, sets: Callable[[], ImageSets]
) -> None:
    stl10(tmp_path / "stl10")

    def plan() -> Pack:
        return sets().pack(ImageSpec(card="stl10", path="stl10"), "train", labeled=True)

    first = plan()
    assert plan() == first
    settle()
    assert plan().identity() == first.identity()


def test_a_card_beside_the_pipeline_file_names_files_beside_itself(
    tmp_path: Path, sets: Callable[[], ImageSets]
) -> None:
    fill(tmp_path / "data" / "pets", "train/cat/1.png", "test/cat/1.png")
    card = "name: pets\ntitle: two cats\nreader: folder\nlayout: as it is\npath: pets\nsize: 48\n"
    (tmp_path / "data" / "pets.yaml").write_text(card)
    pack = sets().pack(ImageSpec(card="pets"), "test", labeled=True)
    assert (pack.origin.location, pack.size) == (str(tmp_path / "data" / "pets"), 48)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ntitle: [", "not a readable card"),
        ("name: x", "title: Field required"),
        ("- a", "card: "),
        ("", "card: "),
        ("name: !!python/object:os.system x", "not a readable card"),
        ("name: 2020-99-99", "x.yaml: "),
        ("name: x\ntitle: x\nreader: magic\nlayout: x", "reader: "),
        ("name: x\ntitle: x\nreader: folder\nlayout: x\nsize: 100000", "size: "),
        ("name: x\nname: y", "not a readable card"),
    ],
)
def test_a_faulty_card_is_told_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as refusal:
        load_card("x", tmp_path)
    assert "x.yaml" in str(refusal.value)
