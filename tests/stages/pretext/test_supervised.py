from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.pretext.supervised import Supervised
from tests.stages.handmade import make_work, pack_images
from tests.stages.pretext.support import make_stage
from transfer.artifacts import Model
from transfer.errors import TransferError, UsageError
from transfer.models.build import build_network
from transfer.pipeline.loader import load_plan
from transfer.stage.image_input import DatasetInfo
from transfer.storage.store import Store
from transfer.transforms.per_image_rng import PerImageRng

PIXELS = np.random.RandomState(0).randint(0, 256, (20, 16, 16, 3)).astype(np.uint8)
LABELS = np.arange(20) % 4


def task(**options: object) -> Supervised:
    return make_stage(Supervised, **{"backbone": "conv4", "epochs": 1, "batch_size": 8, **options})


def test_labels_go_by_the_row_in_the_set_not_by_the_place_in_the_batch(tmp_path: Path) -> None:
    stage, images = task(), pack_images(tmp_path / "set", PIXELS, LABELS)
    network: Any = stage.network(build_network(stage.backbone, 0), DatasetInfo(16, 20, 4))
    stage.begin(network, make_work(tmp_path, {"images": images}))
    rows = torch.tensor([17, 2, 9, 4])
    batch = torch.from_numpy(PIXELS[rows.numpy()]).permute(0, 3, 1, 2)
    network["head"].weight.data.zero_()
    network["head"].bias.data.copy_(
        torch.tensor([0.0, 9.0, 0.0, 0.0])
    )  # always says 1, which two of the rows are
    _, figures = stage.loss(network, batch, PerImageRng(0, rows))
    assert LABELS[rows.numpy()].tolist() == [1, 2, 1, 0]
    assert figures["accuracy"] == 0.5


def test_it_learns_labels_that_can_be_seen(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 40, (64, 16, 16, 3)).astype(np.uint8)
    labels = np.arange(64) % 3
    pixels[np.arange(64), :, :, labels] += 150
    stage = task(epochs=15, batch_size=16, optimizer="adamw", learning_rate=1e-2)
    work = make_work(tmp_path, {"images": pack_images(tmp_path / "set", pixels, labels)})
    stage.run(work)
    assert Model(work.folder).history[-1]["accuracy"] > 0.9
    assert stage.chance(stage.dataset_info(work)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "not every image has a label"),
        (LABELS - 1, "not every image has a label"),
        (LABELS * 0, "the same label"),
    ],
)
def test_labels_that_teach_nothing_are_refused(
    labels: np.ndarray | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(TransferError, match=message):
        task().run(make_work(tmp_path, {"images": pack_images(tmp_path / "set", PIXELS, labels)}))


def test_a_set_without_labels_is_refused_before_anything_runs(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16)).save(tmp_path / "photos" / f"{number}.png")
    file = pipeline(
        "data: {folder: photos, split: all}\n"
        "stages:\n  a: {uses: pretext/supervised, backbone: conv4}\n"
    )
    with pytest.raises(UsageError, match="has no labels, and this stage needs them"):
        load_plan(file, Store(tmp_path / "store"))
