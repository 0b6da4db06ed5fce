"""Splits of stages that read several: which is trained on, which is scored, and subsets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.conftest import split_of, write_h5
from transfer.datasets.cards import load_card
from transfer.datasets.packed.pack_stage import Pack

pytestmark = pytest.mark.usefixtures("few_images_suffice")

# The split that is scored: `val` where the published test images are missing or lack labels.
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
PROBE = (
    "name: p\ndata: {{card: {name}, path: set.h5{more}}}\nstages:\n"
    "  r: {{uses: pretext/random, backbone: conv4}}\n"
)


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
    output = invoke("run", pipeline(probe(name, ", size: 32")), "-n").text
    assert f"{name}/{SCORED[name]} " in output
    assert f"{name}/{'trainval' if name == 'oxford_pets' else 'train'} " in output


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            ", data: {card: imagenet, path: set.h5, split: train_1percent}",
            "give a split for each, as in {train: train_1p",
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
    own: str,
    message: str,
    tmp_path: Path,
    pipeline: Callable[..., Path],
    invoke: Callable[..., Any],
) -> None:
    splits = {
        split: split_of(2) for split in ("train", "val", "test", "train_1percent", "trainval")
    }
    del splits["test"]["labels"]
    write_h5(tmp_path / "set.h5", **splits)
    right = ", data: {card: imagenet, path: set.h5, size: 32, split: {train: train_1percent}}"
    output = invoke("run", pipeline(probe("imagenet", ", size: 32", right)), "-n").text
    assert "imagenet/train_1percent" in output
    assert "imagenet/val" in output
    assert (
        message in invoke("run", pipeline(probe("imagenet", ", size: 32", own)), "-n", check=2).text
    )


def test_a_subset_is_of_the_training_images_and_never_of_those_that_are_scored(
    tmp_path: Path, pipeline: Callable[..., Path]
) -> None:
    from transfer.pipeline.loader import load_plan
    from transfer.storage.store import Store

    write_h5(tmp_path / "set.h5", train=split_of(8), test=split_of(6))
    for more in (", limit: 2", ", fraction: 0.25", ", per_class: 0.25, limit: 2"):
        file = pipeline(probe("cifar10", f", size: 32, subset_seed: 3{more}"))
        plan = load_plan(file, Store(tmp_path / "s"))
        packs = {
            planned.name: planned.stage.count for planned in plan if isinstance(planned.stage, Pack)
        }
        assert packs == {"cifar10/train": 2, "cifar10/test": 6}
        test = next(planned.stage for planned in plan if planned.name == "cifar10/test")
        assert isinstance(test, Pack)
        assert (test.spec.per_class, test.spec.subset_seed) == (None, 0)


def test_a_split_that_is_not_as_large_as_its_card_says_is_told_by_the_plan(
    tmp_path: Path, pipeline: Callable[..., Path], invoke: Callable[..., Any]
) -> None:
    write_h5(tmp_path / "cifar10.h5", train=split_of(6), test=split_of(2))
    file = pipeline(
        "name: p\ndata: {card: cifar10, path: cifar10.h5}\nstages:\n"
        "  a: {uses: pretext/rotation, backbone: conv4}\n  b: {uses: evaluate/linear, model: a}\n"
    )
    output = invoke("run", file, "-n").text
    assert "split 'train' of cifar10 has 6 images; its card says 50,000" in output
    assert "split 'test' of cifar10 has 2 images; its card says 10,000" in output
    assert "its card says" not in invoke("run", file, "-n", "--set", "data={hdf5: cifar10.h5}").text
