"""The VOC protocols through pipeline files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.evaluate import _faster_rcnn
from tests.conftest import Said
from tests.datasets.conftest import split_of, write_h5
from tests.stages.voc_handmade import scenes, write_files
from transfer.api import Pipeline
from transfer.artifacts import Scores
from transfer.errors import TransferError, UsageError
from transfer.pipeline.loader import load_plan
from transfer.storage.store import Store

PROTOCOLS = ("voc_classification", "voc_svm", "voc_detection", "voc_segmentation")

FILE = """\
data: {{card: voc2007, path: voc, size: 32{data}}}
stages:
  network:
    uses: pretext/random
    backbone: {{name: conv4, width: 0.5}}
    data: {{card: voc2007, path: voc, size: 32, split: trainval}}
  voc_classification:
    {{uses: evaluate/voc_classification, model: network, epochs: 1, crops: 2{voc_classification}}}
  voc_svm:
    {{uses: evaluate/voc_svm, model: network, shots: [1], samples: 1, shot_costs: [1.0]{voc_svm}}}
  voc_detection:
    uses: evaluate/voc_detection
    model: network
    epochs: 1
    batch_size: 8
    anchors: [0.4]{voc_detection}
  voc_segmentation:
    {{uses: evaluate/voc_segmentation, model: network, epochs: 1, layer: conv2{voc_segmentation}}}
"""


def write(pipeline: Callable[..., Path], tmp_path: Path, **changes: str) -> Path:
    splits = {"trainval": scenes("trainval", 16), "test": scenes("test", 8)}
    write_files(tmp_path / "voc/VOCdevkit/VOC2007", splits, ["cat", "dog", "bird"])
    return pipeline(FILE.format(**{name: changes.get(name, "") for name in ("data", *PROTOCOLS)}))


@pytest.mark.slow
def test_all_protocols_run_on_files_in_the_layout_of_voc(
    pipeline: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(_faster_rcnn, "HIDDEN_UNITS", 32)
    made = Pipeline.load(write(pipeline, tmp_path), store=tmp_path / "store").run(quiet=True)
    for name in PROTOCOLS:
        scores = made[name]
        assert isinstance(scores, Scores)
        assert scores.card.protocol.startswith(f"{name}/")
        assert scores.card.main in scores.figures
        assert set(scores.card.intervals) == {scores.card.main}
        assert all(0 <= figure <= 100 for figure in scores.figures.values())
        assert scores.card.counts["test"] == 8


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("voc_classification", ", train: fc6-8", "conv4 has no layers fc6 and fc7"),
        ("voc_classification", ", scale: [2.0, 0.5]", r"\[lowest, highest\], above zero"),
        ("voc_svm", ", layers: [conv9]", "no layer of conv4 is called 'conv9'; did you mean"),
        ("voc_svm", ", costs: [0.0]", "above zero"),
        (
            "voc_detection",
            "\n    layer: conv9",
            "no layer of conv4 is called 'conv9'; did you mean",
        ),
        ("voc_detection", ", anchors: [64.0]", "shares of the image's side"),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(
    pipeline: Callable[..., Path], tmp_path: Path, where: str, change: str, message: str
) -> None:
    if where == "voc_detection" and "anchors" in change:
        file = write(pipeline, tmp_path)
        file.write_text(file.read_text().replace("anchors: [0.4]", "anchors: [64.0]"))
    else:
        file = write(pipeline, tmp_path, **{where: change})
    with pytest.raises(UsageError, match=message):
        load_plan(file, Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("name", "labels", "problem"),
    [
        (
            "voc_classification",
            ([0], [0]),
            "the training images show 1 of 20 classes, and no class",
        ),
        ("voc_svm", ([0], [0]), "the training images show 1 of 20 classes, and no class"),
        ("voc_classification", ([0, 1], []), "the test split shows none of the classes"),
        ("voc_svm", ([0, 1], []), "the test split shows none of the classes"),
        ("voc_detection", ([0, 1], []), "the test split shows none of the classes"),
        ("voc_detection", ([], [0]), "the training images have no box to learn from"),
        ("voc_segmentation", ([0], [0]), "trainval001 has no mask; choose a split of segmentation"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_annotations_that_cannot_do_are_told_before_anything_is_trained(
    invoke: Callable[..., Said],
    pipeline: Callable[..., Path],
    tmp_path: Path,
    name: str,
    labels: tuple[list[int], list[int]],
    problem: str,
    dry: bool,
) -> None:
    splits = {"trainval": scenes("trainval", 4), "test": scenes("test", 2)}
    for shown, made in zip(labels, splits.values(), strict=True):
        for number, entry in enumerate(made):
            corners = entry.objects[0][1]
            entry.objects = [(shown[number % len(shown)], corners, False)] if shown else []
    root = tmp_path / "voc/VOCdevkit/VOC2007"
    write_files(root, splits, ["cat", "dog", "bird"])
    (root / "SegmentationClass/trainval001.png").unlink()
    shutil.rmtree(root / "ImageSets/Segmentation")
    split = ", split: {train_seg: trainval, val_seg: test}" if "segmentation" in name else ""
    file = pipeline(
        f"data: {{card: voc2007, path: voc, size: 32}}\nstages:\n"
        "  net: {uses: pretext/random, backbone: conv4, "
        "data: {card: voc2007, path: voc, size: 32, split: trainval}}\n"
        f"  x: {{uses: evaluate/{name}, model: net, "
        f"data: {{card: voc2007, path: voc, size: 32{split}}}}}\n"
    )
    said = invoke("run", file, "--store", "store", *(["-n"] * dry), check=2).err
    assert f"{file}:4:3: stages.x: {problem}" in said
    assert list((tmp_path / "store").rglob("manifest.json")) == []


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_set_without_annotations_is_told_by_its_name(
    pipeline: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    write_h5(
        tmp_path / "photos.h5",
        **{split: split_of(2) for split in ("trainval", "test", "train_seg", "val_seg")},
    )
    file = pipeline(
        "data: {hdf5: photos.h5, size: 32}\nstages:\n"
        "  a:\n    uses: pretext/random\n    backbone: conv4\n"
        "    data: {hdf5: photos.h5, size: 32, split: test}\n"
        f"  b: {{uses: evaluate/{name}, model: a}}\n"
    )
    with pytest.raises(
        UsageError, match=r"image set 'photos.h5' has no annotations .*such as the card voc2007"
    ):
        load_plan(file, Store(tmp_path / "store"))


def test_a_layer_without_a_map_is_told_before_the_first_stage_runs(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    file = write(pipeline, tmp_path, voc_detection="\n    layer: avgpool")
    with pytest.raises(TransferError, match="layer avgpool of conv4 is not a map"):
        Pipeline.load(file, store=tmp_path / "store").run(quiet=True)
    assert not (tmp_path / "store/pretext").exists()
