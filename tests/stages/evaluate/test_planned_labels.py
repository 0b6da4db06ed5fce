"""Faults of labels are told before anything is trained, by a dry run and by a run alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Said

HEAD = """\
data: ./set
stages:
  net: {uses: pretext/rotation, backbone: conv4, epochs: 1}
  features: {uses: extract/network, model: net}
"""
# Split -> class -> images.
Counts = dict[str, dict[str, int]]
PLENTY: Counts = {"train": {"cat": 20, "dog": 12}, "test": {"cat": 4, "dog": 4}}
FEW: Counts = {"train": {"cat": 8, "dog": 8}, "test": {"cat": 4, "dog": 4}}
ALIKE: Counts = {"train": {"cat": 30}, "test": {"cat": 4, "dog": 4}}
APART: Counts = {"train": {"cat": 20, "dog": 12}, "test": {"owl": 4}}
TOO_FEW = "16 training images are too few to learn from; use at least 20"
ONE_LABEL = "all training images have one label; choose a set with at least two classes"


def write_set(folder: Path, counts: Counts) -> None:
    """Write small pictures of noise in folders of splits and classes."""
    random = np.random.RandomState(0)
    for split, classes in counts.items():
        for name, count in classes.items():
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.randint(0, 256, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")


@pytest.mark.parametrize(
    ("stage", "counts", "where", "problem"),
    [
        ("uses: evaluate/linear, model: net", FEW, "stages.x", TOO_FEW),
        ("uses: evaluate/nonlinear, model: net", FEW, "stages.x", TOO_FEW),
        ("uses: evaluate/lowshot, model: net", FEW, "stages.x", TOO_FEW),
        ("uses: evaluate/finetune, model: net", FEW, "stages.x", TOO_FEW),
        ("uses: evaluate/knn, model: net, k: 3", FEW, "stages.x", TOO_FEW),
        ("uses: evaluate/linear, model: net", ALIKE, "stages.x", ONE_LABEL),
        ("uses: evaluate/nonlinear, model: net", ALIKE, "stages.x", ONE_LABEL),
        ("uses: evaluate/lowshot, model: net", ALIKE, "stages.x", ONE_LABEL),
        ("uses: evaluate/finetune, model: net", ALIKE, "stages.x", ONE_LABEL),
        ("uses: evaluate/knn, model: net, k: 3", ALIKE, "stages.x", ONE_LABEL),
        ("uses: evaluate/retrieval, model: net", ALIKE, "stages.x", ONE_LABEL),
        (
            "uses: evaluate/retrieval, model: net",
            APART,
            "stages.x",
            "the test split has no class of the training split; choose splits of one set",
        ),
        (
            "uses: evaluate/finetune, model: net, label_budgets: [13]",
            PLENTY,
            "stages.x.label_budgets",
            "13 labels of each class are asked for, but class 'dog' has 12 training images",
        ),
        (
            "uses: evaluate/lowshot, model: net, label_budgets: [1.0, 13]",
            PLENTY,
            "stages.x.label_budgets",
            "13 labels of each class are asked for, but class 'dog' has 12 training images",
        ),
        (
            "uses: evaluate/knn, model: net, k: 25, data: {folder: ./set, per_class: 12}",
            PLENTY,
            "stages.x.k",
            "25 neighbors are more than the 24 training images; lower k",
        ),
        (
            "uses: evaluate/linear, model: net, data: {folder: ./set, per_class: 13}",
            PLENTY,
            "data",
            "class 'dog' of image set './set' has 12 images, not 13",
        ),
        (
            "uses: evaluate/linear, model: net, data: {folder: ./set, per_class: 0.5}",
            PLENTY,
            "stages.x",
            TOO_FEW,
        ),
        (
            "uses: evaluate/linear, model: net, data: {folder: ./set, classes: [cat]}",
            PLENTY,
            "stages.x",
            ONE_LABEL,
        ),
        (
            "uses: evaluate/linear, model: net, data: {folder: ./set, classes: [cat, dgo]}",
            PLENTY,
            "stages.x.data",
            "image set './set' has no class 'dgo'; did you mean 'dog'?",
        ),
        (
            "uses: pretext/supervised, backbone: conv4",
            ALIKE | {"test": {"cat": 4}},
            "stages.x",
            "all images have the same label: use a dataset with two classes",
        ),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_a_fault_of_the_labels_is_told_before_anything_is_trained(
    invoke: Callable[..., Said],
    pipeline: Callable[..., Path],
    tmp_path: Path,
    stage: str,
    counts: Counts,
    where: str,
    problem: str,
    dry: bool,
) -> None:
    write_set(tmp_path / "set", counts)
    file = pipeline(f"{HEAD}  x: {{{stage}}}\n")
    said = invoke("run", file, "--store", "store", *(["-n"] * dry), check=2)
    assert said.err.startswith(f"{file}:5:")
    assert f": {where}: {problem}" in said.err
    made = list((tmp_path / "store").rglob("manifest.json"))
    assert made == []


@pytest.mark.parametrize(
    ("stages", "where", "problem"),
    [
        (
            "x: {uses: cluster, features: features, k: 25}",
            "stages.x.k",
            "25 clusters of 24 images; k must be at most the number of images",
        ),
        (
            "x: {uses: prepare, features: features, steps: [pca], components: 24}",
            "stages.x.components",
            "24 components of 24 images: at most 23",
        ),
    ],
)
def test_a_subset_is_counted_by_its_labels(
    invoke: Callable[..., Said],
    pipeline: Callable[..., Path],
    tmp_path: Path,
    stages: str,
    where: str,
    problem: str,
) -> None:
    write_set(tmp_path / "set", {"train": {"cat": 12, "dog": 12, "owl": 40}})
    head = HEAD.replace("data: ./set", "data: {folder: ./set, classes: [cat, dog]}")
    said = invoke("run", pipeline(f"{head}  {stages}\n"), "-n", check=2)
    assert f": {where}: {problem}" in said.err


def test_one_image_has_no_directions(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    write_set(tmp_path / "set", {"train": {"cat": 1}})
    file = pipeline(HEAD + "  x: {uses: prepare, features: features}\n")
    said = invoke("run", file, "-n", check=2)
    assert ": stages.x.steps: directions need two images or more" in said.err


def test_what_labels_show_is_read_again_when_they_change(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    write_set(tmp_path / "set", FEW)
    file = pipeline(f"{HEAD}  x: {{uses: evaluate/linear, model: net}}\n")
    assert TOO_FEW in invoke("run", file, "-n", check=2).err
    write_set(tmp_path / "set", {"train": {"owl": 4}})
    invoke("run", file, "-n")


def test_other_stages_of_the_file_can_still_be_run(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    write_set(tmp_path / "set", FEW)
    file = pipeline(f"{HEAD}  x: {{uses: evaluate/linear, model: net}}\n")
    assert " features " in invoke("run", file, "features", "-n").out


def test_a_smoke_run_has_fewer_neighbors_and_labels_than_its_images(
    invoke: Callable[..., Said], pipeline: Callable[..., Path]
) -> None:
    file = pipeline(
        "data: drawings\nstages:\n  net: {uses: pretext/random, backbone: conv4}\n"
        "  knn: {uses: evaluate/knn, model: net, k: 300}\n"
        "  few: {uses: evaluate/lowshot, model: net, label_budgets: [100, 50, 0.5]}\n"
    )
    said = invoke("run", file, "-n", "--smoke").out
    assert "smoke: k 300 → 20" in said
    assert "label_budgets [100, 50, 0.5] → [1, 0.5]" in said
