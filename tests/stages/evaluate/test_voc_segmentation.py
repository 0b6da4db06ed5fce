"""The protocol `voc_segmentation` on a miniature set; and all VOC protocols through pipeline files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.evaluate import _faster_rcnn
from stages.evaluate.voc_segmentation import VocSegmentation, masks_of
from tests.datasets.conftest import split_of, write_h5
from tests.stages.handmade import make_work, pinned, run_stage
from tests.stages.voc_handmade import SIZE, model, pack, packed, scenes, write_files
from transfer.api import Pipeline
from transfer.artifacts import Images, Scores
from transfer.errors import TransferError, UsageError
from transfer.pipeline.loader import load_plan
from transfer.storage.store import Store

GOLDEN = {"mIoU": 87.69, "pixels": 97.64}
QUICK = {"layer": "conv2", "batch_size": 8, "learning_rate": 0.2}
PROTOCOLS = ("voc_classification", "voc_svm", "voc_detection", "voc_segmentation")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Images]:
    return packed(tmp_path_factory.mktemp("sets"), scenes("trainval", 32), scenes("test", 16))


def run(folder: Path, sets: dict[str, Images], **options: object) -> Scores:
    stage = VocSegmentation(model="model", **{"epochs": 30, **QUICK, **options})
    return run_stage(stage, folder / "made", sets, model=model(folder / "model"))


def test_published_settings_are_the_defaults() -> None:
    stage = VocSegmentation(model="model")
    assert (stage.batch_size, stage.learning_rate, stage.weight_decay, stage.flip) == (
        20,
        1e-4,
        5e-4,
        0,
    )
    assert stage.epochs * 1464 / stage.batch_size == pytest.approx(150_000, rel=0.001)


def test_the_figure_is_pinned_and_named(sets: dict, tmp_path: Path) -> None:
    made = run(tmp_path, sets, epochs=60)
    assert {name: made.figures[name] for name in GOLDEN} == pinned(GOLDEN, elsewhere=2.0)
    assert set(made.figures) == {*GOLDEN, "IoU background", "IoU red", "IoU green", "IoU blue"}
    each = [value for name, value in made.figures.items() if name.startswith("IoU")]
    assert made.figures["mIoU"] == pytest.approx(sum(each) / 4)
    assert made.card.main == "mIoU"
    low, high = made.card.intervals["mIoU"]
    assert low < made.figures["mIoU"] < high
    assert made.card.counts == {"train": 32, "test": 16, "classes": 4}


def test_the_order_of_test_images_changes_nothing(sets: dict, tmp_path: Path) -> None:
    turned = pack(tmp_path / "turned", scenes("test", 16)[::-1], "test")
    here, there = (
        run(tmp_path / name, {**sets, "test": one.by_id()}, epochs=1)
        for name, one in (("a", sets["test"]), ("b", turned))
    )
    assert here.figures == there.figures
    assert here.card.intervals == there.card.intervals


def test_masks_are_mirrored_with_their_images(sets: dict, tmp_path: Path) -> None:
    shown = scenes("trainval", 32)
    for one in shown:
        one.pixels, one.mask = one.pixels[:, ::-1], one.mask[:, ::-1]
    turned = pack(tmp_path / "turned", shown, "trainval")
    # Mirrored back, they are what they were, but for the rounding of the resampling.
    both = np.array(turned.pixels, int)[:, :, ::-1], np.array(sets["train"].pixels, int)
    assert np.abs(both[0] - both[1]).max() <= 2
    straight = run(tmp_path / "a", sets).figures["mIoU"]
    assert run(tmp_path / "b", {**sets, "train": turned}, flip=1.0).figures[
        "mIoU"
    ] == pytest.approx(straight, abs=5)


def test_masks_come_to_the_packed_square_and_borders_stay_borders(sets: dict) -> None:
    masks, pixels = masks_of(sets["test"], 4), np.array(sets["test"].pixels)
    assert masks.shape == (16, SIZE, SIZE)
    assert set(np.unique(masks)) == {0, 1, 2, 3, 255}
    for label in range(3):
        inside = masks == label + 1
        assert pixels[..., label][inside].mean() > 190
        assert pixels[..., label][masks == 0].mean() < 60


def test_masks_that_are_missing_or_damaged_are_named(sets: dict, tmp_path: Path) -> None:
    with pytest.raises(
        TransferError, match="trainval000 has no mask: take a split of segmentation"
    ):
        masks_of(pack(tmp_path / "a", scenes("trainval", 2), "trainval", masks=False), 4)
    with pytest.raises(
        TransferError, match=r"the mask of test001 holds 3, which is no class \(0 to 2, 255\)"
    ):
        masks_of(sets["test"], 3)
    some = scenes("test", 2)
    some[1].mask = some[1].mask[:-4]
    with pytest.raises(
        TransferError, match="the mask of test001 has 48 x 32 px, and its image 48 x 36 px"
    ):
        masks_of(pack(tmp_path / "b", some, "test"), 4)


def test_masks_of_one_class_and_layers_without_a_map_are_refused(
    sets: dict, tmp_path: Path
) -> None:
    flat = scenes("trainval", 4)
    for one in flat:
        one.mask[:] = 0
    with pytest.raises(TransferError, match="all training masks have one class"):
        run(tmp_path / "a", {**sets, "train": pack(tmp_path / "flat", flat, "trainval")})
    with pytest.raises(TransferError, match="layer avgpool of conv4 gives no map of places"):
        run(tmp_path / "b", sets, layer="avgpool")


def test_images_that_are_all_border_do_no_harm(sets: dict, tmp_path: Path) -> None:
    shown = scenes("trainval", 16)
    for one in shown[:8]:
        one.mask[:] = 255
    made = run(
        tmp_path, {**sets, "train": pack(tmp_path / "t", shown, "trainval")}, epochs=2, batch_size=2
    )
    assert np.isfinite(made.figures["mIoU"])


def test_a_class_absent_from_the_test_split_is_left_out_with_a_note(
    sets: dict, tmp_path: Path
) -> None:
    some = [one for one in scenes("test", 30) if all(label != 2 for label, _, _ in one.objects)]
    work = make_work(
        tmp_path,
        {**sets, "test": pack(tmp_path / "some", some, "test")},
        {"model": model(tmp_path / "m")},
    )
    VocSegmentation(model="model", epochs=0, **QUICK).run(work)
    assert work.notes == ["left out of the mean, as the test split has none of them: blue"]
    assert "IoU blue" not in Scores(work.folder).figures


def test_upsampled_scores_have_the_size_of_the_image(tmp_path: Path) -> None:
    from stages.evaluate.voc_segmentation import _scored

    work = make_work(tmp_path)
    network = VocSegmentation(model="model", layer="conv3")._network(
        work, model(tmp_path / "m"), SIZE, 4
    )
    assert _scored(network, torch.rand(2, 3, SIZE, SIZE)).shape == (2, 4, SIZE, SIZE)
    assert not _scored(network, torch.rand(2, 3, SIZE, SIZE)).any()  # the head begins with zeros


# Through pipeline files

FILE = """\
data: {{card: voc2007, path: voc, size: 32{data}}}
stages:
  network:
    uses: pretext/random
    backbone: {{name: conv4, width: 0.5}}
    data: {{card: voc2007, path: voc, size: 32, split: trainval}}
  voc_classification: {{uses: evaluate/voc_classification, model: network, epochs: 1, crops: 2{voc_classification}}}
  voc_svm: {{uses: evaluate/voc_svm, model: network, shots: [1], samples: 1, shot_costs: [1.0]{voc_svm}}}
  voc_detection: {{uses: evaluate/voc_detection, model: network, epochs: 1, batch_size: 8, anchors: [0.4]{voc_detection}}}
  voc_segmentation: {{uses: evaluate/voc_segmentation, model: network, epochs: 1, layer: conv2{voc_segmentation}}}
"""


def write(pipeline: Callable[..., Path], tmp_path: Path, **changes: str) -> Path:
    splits = {"trainval": scenes("trainval", 16), "test": scenes("test", 8)}
    write_files(tmp_path / "voc/VOCdevkit/VOC2007", splits, ["cat", "dog", "bird"])
    return pipeline(FILE.format(**{name: changes.get(name, "") for name in ("data", *PROTOCOLS)}))


def test_all_protocols_run_on_files_in_the_layout_of_voc(
    pipeline: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(_faster_rcnn, "UNITS", 32)
    made = Pipeline.load(write(pipeline, tmp_path), store=tmp_path / "store").run(quiet=True)
    for name in PROTOCOLS:
        scores = made[name]
        assert scores.card.protocol.startswith(f"{name}/")
        assert scores.card.main in scores.figures
        assert set(scores.card.intervals) == {scores.card.main}
        assert all(0 <= figure <= 100 for figure in scores.figures.values())
        assert scores.card.counts["test"] == 8


@pytest.mark.parametrize(
    ("where", "change", "told"),
    [
        ("voc_classification", ", train: fc6-8", "conv4 has no layers fc6 and fc7"),
        ("voc_classification", ", scale: [2.0, 0.5]", r"\[lowest, highest\], above zero"),
        ("voc_svm", ", layers: [conv9]", "no layer of conv4 is called 'conv9'; did you mean"),
        ("voc_svm", ", costs: [0.0]", "above zero"),
        ("voc_detection", ", layer: conv9", "no layer of conv4 is called 'conv9'; did you mean"),
        ("voc_detection", ", anchors: [64.0]", "shares of the image's side"),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(
    pipeline: Callable[..., Path], tmp_path: Path, where: str, change: str, told: str
) -> None:
    if where == "voc_detection" and "anchors" in change:
        file = write(pipeline, tmp_path)
        file.write_text(file.read_text().replace("anchors: [0.4]", "anchors: [64.0]"))
    else:
        file = write(pipeline, tmp_path, **{where: change})
    with pytest.raises(UsageError, match=told):
        load_plan(file, Store(tmp_path / "store"))


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
        "  a: {uses: pretext/random, backbone: conv4, data: {hdf5: photos.h5, size: 32, split: test}}\n"
        f"  b: {{uses: evaluate/{name}, model: a}}\n"
    )
    with pytest.raises(
        UsageError, match=r"image set 'photos.h5' has no annotations .*such as the card voc2007"
    ):
        load_plan(file, Store(tmp_path / "store"))


def test_a_layer_without_a_map_is_told_before_the_first_stage_runs(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    file = write(pipeline, tmp_path, voc_detection=", layer: avgpool")
    with pytest.raises(TransferError, match="layer avgpool of conv4 gives no map of places"):
        Pipeline.load(file, store=tmp_path / "store").run(quiet=True)
    assert not (tmp_path / "store/pretext").exists()
