"""Cards: the shipped ones are sound, one's own works without code, and what is not there is told with what to do."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import split_of, write_h5
from tests.datasets.miniature import jpegs, settle, text
from tests.datasets.readers.record_files import cifar10_python, stl10, unpack
from transfer.artifacts import Images
from transfer.datasets.cards import Card, card_files, find_place, load_card, read_card
from transfer.datasets.image_sets import ImageSets
from transfer.datasets.packed.decode import decode
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.spec import ImageSpec
from transfer.errors import UsageError
from transfer.utils.paths import shipped_folder

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


# The shipped ones


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
    """Each is one line of shell; what it imports from torchvision is there."""
    import torchvision.datasets

    seen = 0
    for name in SETS:
        card, _ = load_card(name)
        told = card.absent(Path("/a place/it's here"), "gone")
        assert told.splitlines()[1].startswith("To fetch it: ") == bool(card.fetch)
        commands = re.findall(r"(?:To fetch it: |    )((?:python|curl) .*)", told)
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
    said = card.described(file, tmp_path / "a place")
    assert "{path}" not in str(said)
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
    } <= said.keys()
    if name in SETS:
        assert (said["place"], said["there"]) == (str(tmp_path / "a place"), False)
        assert f"'{tmp_path}/a place'" in said["layout"]


# Where the files are


def test_a_set_lies_beside_its_card_or_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, file = load_card("stl10")
    assert find_place(card, file) == shipped_folder("data") / "stl10"
    assert find_place(card, file, tmp_path / "mine") == shipped_folder("data") / "stl10"
    (tmp_path / "mine" / "data" / "stl10").mkdir(parents=True)
    assert find_place(card, file, tmp_path / "mine") == tmp_path / "mine" / "data" / "stl10"
    (tmp_path / "mine" / "pipelines").mkdir()
    assert (
        find_place(card, file, tmp_path / "mine" / "pipelines")
        == tmp_path / "mine" / "data" / "stl10"
    )
    monkeypatch.setenv("TRANSFER_DATA", str(tmp_path / "all sets"))
    assert find_place(card, file, tmp_path / "mine") == tmp_path / "mine" / "data" / "stl10"
    assert find_place(card, file) == tmp_path / "all sets" / "stl10"
    (tmp_path / "all sets" / "stl10").mkdir(parents=True)
    assert find_place(card, file, tmp_path / "mine") == tmp_path / "all sets" / "stl10"


@pytest.mark.parametrize("form", ["zip", "tar", "h5"])
def test_a_set_may_be_kept_as_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    card, file = load_card("tiny_imagenet")
    monkeypatch.setenv("TRANSFER_DATA", str(tmp_path))
    (tmp_path / f"tiny_imagenet.{form}").write_bytes(b"x")
    assert find_place(card, file) == tmp_path / f"tiny_imagenet.{form}"
    (tmp_path / "tiny_imagenet").mkdir()
    assert find_place(card, file) == tmp_path / "tiny_imagenet"


def test_an_installed_package_is_no_place_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transfer.datasets import cards

    installed = tmp_path / "site-packages" / "transfer" / "shipped" / "data"
    shutil.copytree(shipped_folder("data"), installed, ignore=shutil.ignore_patterns("*[!l]"))
    installed.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shipped_folder("data") / "stl10.yaml", installed / "stl10.yaml")
    monkeypatch.setattr(cards, "shipped", lambda name: installed)
    card, file = load_card("stl10", tmp_path / "project")
    assert file.parent == installed
    assert find_place(card, file, tmp_path / "project") == tmp_path / "project" / "data" / "stl10"
    assert (
        find_place(card, file, tmp_path / "project" / "pipelines")
        == tmp_path / "project" / "data" / "stl10"
    )


def test_a_set_that_is_not_there_is_told_with_its_layout_and_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: Callable[[], ImageSets]
) -> None:
    monkeypatch.setenv("TRANSFER_DATA", str(tmp_path / "sets of mine"))
    for name in SETS:
        place = tmp_path / "sets of mine" / ("cifar100" if name == "cifar100_coarse" else name)
        place = place.with_name("imagenet") if name == "imagenet100" else place
        origin, _ = sets().locate(ImageSpec(card=name))
        assert origin.location == str(place)
        with pytest.raises(UsageError) as told:
            sets().survey(ImageSpec(card=name))
        lines = str(told.value).splitlines()
        assert lines[0] == f"image set '{name}' is not there: there is no {place}"
        assert "{path}" not in str(told.value)
        assert str(place) in "\n".join(lines[1:])
    command = str(told.value)
    assert "To fetch it: python -c" in command
    assert f"'{place}'" in command


def test_a_path_in_the_pipeline_file_says_where_a_set_is(
    tmp_path: Path, sets: Callable[[], ImageSets], packed: Callable[..., Images]
) -> None:
    files, images = cifar10_python()
    unpack(tmp_path / "my disk" / "cifar", files)
    pack = sets().pack(ImageSpec(card="cifar10", path="my disk/cifar"), "test", labeled=True)
    assert (pack.size, pack.split) == (32, "test")
    found = packed(pack)
    assert np.array_equal(found.pixels, images[20:])
    assert [found.classes[label] for label in found.labels.tolist()] == [
        "airplane",
        "automobile",
        "bird",
        "cat",
    ]
    assert found.ids[0] == "test_batch/0"
    with pytest.raises(
        UsageError, match=r"image set 'cifar10' has no split 'val' \(it has: train, test\)"
    ):
        sets().pack(
            ImageSpec(card="cifar10", path="my disk/cifar", split="val"), "train", labeled=True
        )


def test_a_set_that_was_written_to_one_hdf5_file_is_read_from_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sets: Callable[[], ImageSets],
    packed: Callable[..., Images],
) -> None:
    monkeypatch.setenv("TRANSFER_DATA", str(tmp_path))
    attributes = {"class_names": '["goldfish", "tabby"]', "image_size": 64}
    write_h5(
        tmp_path / "tiny_imagenet.h5", train=split_of(4), test=split_of(2), attributes=attributes
    )
    pack = sets().pack(ImageSpec(card="tiny_imagenet"), "unlabeled", labeled=False)
    assert (pack.split, pack.size, pack.classes) == ("train", 64, ["goldfish", "tabby"])
    assert len(packed(pack)) == 4


def test_unlabelled_images_that_a_set_should_have_are_not_replaced_by_others(
    tmp_path: Path, sets: Callable[[], ImageSets]
) -> None:
    stl10(tmp_path / "stl10")
    spec = ImageSpec(card="stl10", path="stl10")
    assert sets().pack(spec, "unlabeled", labeled=False).split == "unlabeled"
    (tmp_path / "stl10" / "unlabeled_X.bin").unlink()
    with pytest.raises(
        UsageError,
        match=r"image set 'stl10' lacks its split 'unlabeled': .* has no unlabeled_X.bin",
    ):
        sets().pack(spec, "unlabeled", labeled=False)
    assert sets().pack(spec, "train", labeled=True).split == "train"


# One's own


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
    what = f"image set 'h' is not there: there is no {tmp_path}/x.h5\n.*\n  as it is\nIf"
    with pytest.raises(UsageError, match=what):
        sets().survey(ImageSpec(card="h"))
    write_h5(tmp_path / "x.h5", train=split_of(4))
    assert sets().survey(ImageSpec(card="h")).splits["train"].count == 4


def test_two_cards_of_one_name_are_told_with_both_files(tmp_path: Path) -> None:
    path = write_own(tmp_path, OWN.replace("birds\n", "cifar10\n", 1), "cifar10")
    with pytest.raises(UsageError, match="two cards are called 'cifar10'") as told:
        load_card("cifar10", tmp_path)
    assert str(path) in str(told.value)
    assert str(shipped_folder("data") / "cifar10.yaml") in str(told.value)
    assert load_card("stl10", tmp_path)[0].name == "stl10"
    write_own(tmp_path)
    write_own(tmp_path / "pipelines")
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
        (("license: mine", "license: mine"), "license: no such key; did you mean 'license'?"),
        (("reader: files", "reader: file"), r"reader: Input should be .*'files'"),
        (
            ("reader: files", "reader: records"),
            "`files` is for reader: files, and this is reader: records",
        ),
        (("files:\n", "tar:\n"), "tar.splits.train: "),
        (("name: birds", "name: bird"), "name: bird: a card is called as its file is: birds"),
        (("pictures: more", "picture: more"), r"files.splits.unlabeled.0.picture: no such key"),
        (
            ("pictures: more", "pictures: more, folders: x"),
            "files.splits.unlabeled.0: say one of folders, pictures, list",
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
    with pytest.raises(UsageError, match=message) as told:
        sets().pack(ImageSpec(card="birds"), "train", labeled=True)
    assert str(path.parent) in str(told.value)


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
        (recipe(shape=[8, 8]), "shape must have a side for each of axes"),
        (recipe(shape=[4, 8, 8]), "1 or 3 channels"),
        (recipe(block={"images": []}), "records.splits.train.0.images: "),
        (recipe(block={"format": "pickled"}), "format pickled needs keys"),
        (
            recipe(block={"label_bytes": 1, "labels": ["y"]}),
            "labels are either in files of their own",
        ),
        (recipe(block={"label_bytes": 1, "label_byte": 1}), "label_byte is beyond label_bytes"),
        (recipe(splits={}), "records.splits: "),
        (
            "name: r\ntitle: t\nreader: voc\nlayout: l\n",
            "reader: voc needs `voc:`, which says where each split is",
        ),
    ],
)
def test_a_faulty_recipe_is_told(tmp_path: Path, text_of: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(text_of)
    with pytest.raises(UsageError, match=message) as told:
        read_card(tmp_path / "r.yaml")
    assert str(told.value).startswith(str(tmp_path / "r.yaml"))


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
        "from transfer.datasets.image_sets import ImageSets; from transfer.datasets.spec import ImageSpec\n"
        "sets = ImageSets(Path('memory'), Path.cwd())\n"
        "assert sets.pack(ImageSpec(card='cifar10', path='cifar'), 'train', True).facts.count == 20\n"
        "print(*sorted({'numpy', 'torch', 'h5py', 'PIL', 'scipy', 'torchvision'} & set(sys.modules)))\n"
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


def test_a_split_that_is_not_as_large_as_its_card_says_is_told_by_the_plan(
    tmp_path: Path, pipeline: Callable[..., Path], invoke: Callable[..., Any]
) -> None:
    write_h5(tmp_path / "cifar10.h5", train=split_of(6), test=split_of(2))
    file = pipeline(
        "name: p\ndata: {card: cifar10, path: cifar10.h5}\nstages:\n"
        "  a: {uses: pretext/rotation, backbone: conv4}\n  b: {uses: evaluate/linear, model: a}\n"
    )
    told = invoke("run", file, "-n").text
    assert "split 'train' of cifar10 has 6 images; its card says 50,000" in told
    assert "split 'test' of cifar10 has 2 images; its card says 10,000" in told
    assert "its card says" not in invoke("run", file, "-n", "--set", "data={hdf5: cifar10.h5}").text


# Published test splits without labels, or none at all: what is scored instead.
SCORED = {
    **dict.fromkeys(("imagenet", "imagenet100", "imagenette", "places365", "tiny_imagenet"), "val"),
    **dict.fromkeys(
        ("stl10", "cifar10", "cifar100", "cifar100_coarse", "fashion_mnist", "oxford_pets"), "test"
    ),
    "slimagenet64": "test",
}
UNLABELED = {
    "stl10": ["unlabeled"],
    "imagenet": ["test"],
    "places365": ["test"],
    "tiny_imagenet": ["test"],
}
PROBE = "name: p\ndata: {{card: {name}, path: set.h5{more}}}\nstages:\n  r: {{uses: pretext/random, backbone: conv4}}\n"


def probe(name: str, more: str = "", own: str = "") -> str:
    return PROBE.format(name=name, more=more) + f"  l: {{uses: evaluate/linear, model: r{own}}}\n"


@pytest.mark.parametrize("name", SCORED)
def test_every_set_with_labels_can_be_scored(
    name: str, tmp_path: Path, pipeline: Callable[..., Path], invoke: Callable[..., Any]
) -> None:
    splits = {split: split_of(2) for split in load_card(name)[0].splits}
    for split in UNLABELED.get(name, []):
        del splits[split]["labels"]
    write_h5(tmp_path / "set.h5", **splits)
    told = invoke("run", pipeline(probe(name, ", size: 32")), "-n").text
    assert f"{name}/{SCORED[name]} " in told
    assert f"{name}/{'trainval' if name == 'oxford_pets' else 'train'} " in told


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (
            ", data: {card: imagenet, path: set.h5, split: train_1percent}",
            "say which is which, as in {train: train_1p",
        ),
        (
            ", data: {card: imagenet, path: set.h5, split: {trian: train}}",
            "reads train and test, not 'trian'",
        ),
        (
            ", data: {card: imagenet, path: set.h5, split: {test: test}}",
            "split 'test', has no labels",
        ),
        (
            ", data: {card: imagenet, path: set.h5, split: {train: trainval}}",
            "would be scored on `val`, which is a part",
        ),
        (", data: {card: imagenet, path: set.h5, split: {train: none}}", "has no split 'none'"),
        (
            ", data: {card: imagenet, path: set.h5, split: {train: val}}",
            "reads the split `val` as `train` and as `test`",
        ),
        (
            ", data: {card: imagenet, path: set.h5, split: {test: train_1percent}}",
            "would be scored on `train_1percent`, which is a part of `train`",
        ),
    ],
)
def test_a_stage_of_several_splits_is_told_which_is_which(
    own: str, told: str, tmp_path: Path, pipeline: Callable[..., Path], invoke: Callable[..., Any]
) -> None:
    splits = {
        split: split_of(2) for split in ("train", "val", "test", "train_1percent", "trainval")
    }
    del splits["test"]["labels"]
    write_h5(tmp_path / "set.h5", **splits)
    right = ", data: {card: imagenet, path: set.h5, size: 32, split: {train: train_1percent}}"
    said = invoke("run", pipeline(probe("imagenet", ", size: 32", right)), "-n").text
    assert "imagenet/train_1percent" in said
    assert "imagenet/val" in said
    assert told in invoke("run", pipeline(probe("imagenet", ", size: 32", own)), "-n", check=2).text


def test_a_subset_is_of_the_training_images_and_never_of_those_that_are_scored(
    tmp_path: Path, pipeline: Callable[..., Path]
) -> None:
    from transfer.pipeline.loader import load_plan
    from transfer.storage.store import Store

    write_h5(tmp_path / "set.h5", train=split_of(8), test=split_of(6))
    for more in (", limit: 2", ", fraction: 0.25", ", per_class: 0.25, limit: 2"):
        file = pipeline(probe("cifar10", f", size: 32, subset_seed: 3{more}"))
        plan = load_plan(file, Store(tmp_path / "s"))
        packs = {one.name: one.stage.count for one in plan if one.uses == "images"}
        assert packs == {"cifar10/train": 2, "cifar10/test": 6}
        test = next(one.stage for one in plan if one.name == "cifar10/test")
        assert (test.spec.per_class, test.spec.subset_seed) == (None, 0)
