"""Smoke runs: a set that is there and faulty stays a fault, and the plan says what is smaller."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Said

FILE = """\
data: ./set
stages:
  net: {uses: pretext/random, backbone: conv4}
  features: {uses: extract/network, model: net}
"""


def picture(path: Path) -> None:
    """Write a small picture, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(path)


def loose(place: Path) -> str:
    picture(place / "set" / "train" / "cat" / "0.png")
    picture(place / "set" / "extra" / "cat" / "0.png")
    return "./set"


def mixed(place: Path) -> str:
    picture(place / "set" / "0.png")
    picture(place / "set" / "cat" / "0.png")
    return "./set"


def empty(place: Path) -> str:
    (place / "set").mkdir()
    return "./set"


def broken_link(place: Path) -> str:
    picture(place / "set" / "0.png")
    (place / "set" / "gone.png").symlink_to("nowhere.png")
    return "./set"


def link_to_nothing(place: Path) -> str:
    (place / "set").symlink_to("nowhere")
    return "./set"


def no_folder(place: Path) -> str:
    (place / "set.txt").write_text("no pictures")
    return "./set.txt"


def cut_zip(place: Path) -> str:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("0.png", b"x" * 1000)
    (place / "set.zip").write_bytes(content.getvalue()[:500])
    return "./set.zip"


def packed_tar(place: Path) -> str:
    with tarfile.open(place / "set.tar.gz", "w:gz"):
        pass
    return "./set.tar.gz"


def missing_shard(place: Path) -> str:
    with tarfile.open(place / "set-00.tar", "w"):
        pass
    return "{tar: './set-{00..01}.tar'}"


def empty_shards(place: Path) -> str:
    (place / "set").mkdir()
    return "{tar: ./set}"


def other_hdf5(place: Path) -> str:
    with h5py.File(place / "set.h5", "w") as file:
        file["values"] = np.zeros(3)
    return "./set.h5"


def cut_hdf5(place: Path) -> str:
    (place / "set.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    return "./set.h5"


def records_without_images(place: Path) -> str:
    (place / "set").mkdir()
    return "{card: stl10, path: ./set}"


def voc_without_images(place: Path) -> str:
    lists = place / "set" / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("000001\n")
    return "{card: voc2007, path: ./set}"


def files_without_images(place: Path) -> str:
    (place / "set" / "train").mkdir(parents=True)
    return "{card: imagenette, path: ./set}"


def unknown_card(place: Path) -> str:
    return "drawing"


FAULTY = [
    loose,
    mixed,
    empty,
    broken_link,
    link_to_nothing,
    no_folder,
    cut_zip,
    packed_tar,
    missing_shard,
    empty_shards,
    other_hdf5,
    cut_hdf5,
    records_without_images,
    voc_without_images,
    files_without_images,
    unknown_card,
]


@pytest.mark.parametrize("make", FAULTY)
def test_a_set_that_is_there_and_faulty_is_a_fault_of_a_smoke_run_too(
    invoke: Callable[..., Said],
    pipeline: Callable[..., Path],
    tmp_path: Path,
    make: Callable[[Path], str],
) -> None:
    file = pipeline(FILE.replace("./set", make(tmp_path)))
    fault = invoke("run", file, "-n", check=2).err
    assert f"{file}:1:1: data: " in fault
    assert invoke("run", file, "-n", "--smoke", check=2).err == fault


@pytest.mark.parametrize(
    "data",
    [
        "./nowhere",
        "./nowhere.zip",
        "./nowhere.h5",
        "{tar: './nowhere-{00..01}.tar'}",
        "{tar: './nowhere*.tar'}",
        "{card: stl10, path: ./nowhere}",
        "{card: voc2007, path: ./nowhere}",
        "{card: imagenet, path: ./nowhere}",
    ],
)
def test_drawings_replace_a_set_that_is_not_there(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path, data: str
) -> None:
    said = invoke("run", pipeline(FILE.replace("./set", data)), "-n", "--smoke").out
    place = tmp_path / data.partition("nowhere")[1]
    assert f"drawings replace {place}" in said
    assert ", which is missing\n" in said


def test_the_plan_says_what_is_smaller(
    invoke: Callable[..., Said], pipeline: Callable[..., Path]
) -> None:
    file = pipeline(
        FILE.replace("./set", "drawings") + "  clusters: {uses: cluster, features: features, "
        "k: 200}\n  small: {uses: cluster, features: features, k: 5, iterations: 2}\n"
        "  linear: {uses: evaluate/linear, model: net}\n"
    )
    lines = {
        line.split()[0]: line for line in invoke("run", file, "-n", "--smoke").out.split("\n * ")
    }
    assert lines["clusters"].endswith("; smoke: k 200 → 20, iterations 20 → 3")
    assert lines["linear"].strip().endswith("; smoke: epochs 40 → 3")
    assert lines["drawings/unlabeled"].endswith("; smoke: 256 of 8,000 images")
    assert "smoke" not in lines["small"] + lines["net"]
    assert "smoke:" not in invoke("run", file, "-n").out
