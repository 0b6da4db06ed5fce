"""Where the files of a card are looked for, and what is reported if they are missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.conftest import split_of, write_h5
from tests.datasets.readers.record_files import cifar10_python, stl10, unpack
from transfer.artifacts import Images
from transfer.datasets.cards import card_files, find_place, load_card
from transfer.datasets.image_sets import ImageSets
from transfer.datasets.spec import ImageSpec
from transfer.errors import UsageError
from transfer.utils.paths import shipped_folder

SETS = [
    name for name in sorted(card_files()) if not load_card(name)[0].is_layout and name != "drawings"
]


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRANSFER_DATA", raising=False)


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
    monkeypatch.setattr(cards, "shipped_folder", lambda name: installed)
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
        with pytest.raises(UsageError) as refusal:
            sets().survey(ImageSpec(card=name))
        lines = str(refusal.value).splitlines()
        assert lines[0] == f"image set '{name}' is missing: {place} does not exist"
        assert "{path}" not in str(refusal.value)
        assert str(place) in "\n".join(lines[1:])
    command = str(refusal.value)
    assert "To fetch it: python -c" in command
    assert f"'{place}'" in command


def test_a_path_in_the_pipeline_file_says_where_a_set_is(
    tmp_path: Path, sets: Callable[[], ImageSets], packed: Callable[..., Images]
) -> None:
    files, images = cifar10_python()
    unpack(tmp_path / "my disk" / "cifar", files)
    pack = sets().pack(ImageSpec(card="cifar10", path="my disk/cifar"), "test", labeled=True)
    assert (pack.size, pack.split) == (32, "test")
    images_read = packed(pack)
    assert np.array_equal(images_read.pixels, images[20:])
    assert images_read.labels is not None
    assert [images_read.classes[label] for label in images_read.labels.tolist()] == [
        "airplane",
        "automobile",
        "bird",
        "cat",
    ]
    assert images_read.ids[0] == "test_batch/0"
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


def test_unlabeled_images_that_a_set_should_have_are_not_replaced_by_others(
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
