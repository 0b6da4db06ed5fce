from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

from stages.pretext.counting import Counting
from tests.stages.pretext.support import make_stage, namespace
from transfer.errors import InvalidOption
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 64


def stage(**options: object) -> Counting:
    return make_stage(Counting, backbone="conv4", **{"hidden_dim": 16, "counts": 12, **options})


def images(count: int = 8, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def network(task: Counting) -> Any:
    return task._build(DatasetInfo(SIZE, 8, 0), seed=0)


class Literal(nn.Module):
    """A backbone that answers with `function` of each image: (N, 3, S, S) to (N, D)."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function, self.layer_names = function, ["last"]
        self.spec = namespace(default_layer=lambda: "last")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.function(image) for image in x])


def blobs(numbers: list[int]) -> torch.Tensor:
    """Return black images with so many white squares of 4 x 4 px, each in one quarter."""
    made = torch.zeros(len(numbers), 3, SIZE, SIZE, dtype=torch.uint8)
    for row, number in enumerate(numbers):
        cells = np.random.RandomState(row).permutation(64)[:number]
        for cell in cells:
            y, x = 8 * (cell // 8) + 2, 8 * (cell % 8) + 2
            made[row, :, y : y + 4, x : x + 4] = 255
    return made


def test_the_loss_is_zero_for_a_network_that_counts() -> None:
    def count(image: torch.Tensor) -> torch.Tensor:
        regions: Any = ndimage.label(image[0].numpy() > 0)
        return torch.tensor([float(regions[1])])

    numbers = [3, 20, 40, 0, 31, 11]
    net = nn.ModuleDict({"backbone": Literal(count), "count": nn.Identity()})
    loss, figures = stage(crop_size=SIZE).loss(net, blobs(numbers), PerImageRng(0, torch.arange(6)))
    assert loss == 0  # the others' numbers differ by more than the margin
    assert figures["own"] == 0
    assert figures["accuracy"] == 1


def test_to_count_nothing_costs_the_margin() -> None:
    net = nn.ModuleDict({"backbone": Literal(lambda image: torch.zeros(5)), "count": nn.Identity()})
    loss, figures = stage().loss(net, images(), PerImageRng(0, torch.arange(8)))
    assert loss == 10
    assert figures["accuracy"] == 0


def test_the_margin_is_on_the_squared_length_of_the_whole_difference() -> None:
    """Counts differ by 2 in each of 12 numbers: 48 in all exceeds the margin, 4 does not."""
    counts = iter(
        [0.0] * 5 + [2.0] + [0.0] * 4
    )  # of two images: the first all zero, the second halved: two
    net = nn.ModuleDict(
        {"backbone": Literal(lambda image: torch.full((12,), next(counts))), "count": nn.Identity()}
    )
    _, figures = stage().loss(net, images(2), PerImageRng(0, torch.arange(2)))
    assert figures["other"] == 24  # 48 and 0
    counts = iter([0.0] * 5 + [2.0] + [0.0] * 4)
    loss, _ = stage().loss(net, images(2), PerImageRng(0, torch.arange(2)))
    assert loss == (0 + 0 + 48 + 10) / 2


def test_the_loss_is_that_of_a_plain_loop() -> None:
    task, ids = stage(margin=30.0), torch.arange(8)
    net = network(task).eval()
    for parameter in net["count"].parameters():
        parameter.data *= 3
    with torch.no_grad():
        loss, _ = task.loss(net, images(), PerImageRng(0, ids))
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        rng = PerImageRng(0, ids)
        inputs = (task.wholes_and_quarters(images(), rng) - mean[:, None, None]) / std[
            :, None, None
        ]
        partner = [(i + 1 + int(step)) % 8 for i, step in enumerate(rng.integers(7))]
        count = [[net["count"](net["backbone"](part[None]))[0] for part in five] for five in inputs]
        losses = []
        for x, y in enumerate(partner):
            total: Any = sum(count[x][1:])
            own = sum((count[x][0][i] - total[i]) ** 2 for i in range(12))
            other = sum((count[y][0][i] - total[i]) ** 2 for i in range(12))
            losses.append(own + max(0, 30 - other))
            assert x != y
    assert torch.allclose(loss, torch.stack(losses).mean(), rtol=1e-4)


def test_counts_are_not_negative() -> None:
    task = stage()
    counted = network(task)["count"](torch.randn(32, 64))
    assert counted.min() == 0
    assert counted.max() > 0


def test_quarters_make_up_the_crop_and_each_filter_halves_equally_often() -> None:
    task, ids = stage(crop_size=SIZE, flip=0.0, grayscale=0.0), torch.arange(300)
    batch = images(300)
    inputs = task.wholes_and_quarters(batch, PerImageRng(0, ids))
    assert inputs.shape == (300, 5, 3, 32, 32)
    rows = [torch.cat((inputs[:, 1 + 2 * row], inputs[:, 2 + 2 * row]), dim=-1) for row in range(2)]
    part = batch.float() / 255
    assert torch.allclose(torch.cat(rows, dim=-2), part)
    ways = [
        {"mode": "area"},
        {"mode": "bilinear", "antialias": True},
        {"mode": "bicubic", "antialias": True},
    ]
    halved = torch.stack([F.interpolate(part, size=32, **way).clamp(0, 1) for way in ways])
    used = ((halved - inputs[:, 0]).abs().amax(dim=(2, 3, 4)) < 1e-5).float()
    assert (used.sum(dim=0) == 1).all()
    assert (used.mean(dim=1) - 1 / 3).abs().max() < 0.08


def test_half_of_the_images_are_gray_in_all_their_parts() -> None:
    inputs = stage().wholes_and_quarters(images(400), PerImageRng(0, torch.arange(400)))
    colorless = (inputs - inputs[:, :, :1]).abs().amax(dim=(2, 3, 4)) < 1e-5
    assert (colorless.all(dim=1) == colorless.any(dim=1)).all()
    assert abs(colorless.float().mean() - 0.5) < 0.07


def test_the_loss_does_not_depend_on_the_order_of_the_batch() -> None:
    task, ids, order = stage(), torch.arange(8) * 5, torch.tensor([3, 1, 7, 0, 6, 2, 5, 4])
    net = network(task).eval()
    with torch.no_grad():
        straight, _ = task.loss(net, images(), PerImageRng(0, ids))
        shuffled, _ = task.loss(net, images()[order], PerImageRng(0, ids[order]))
    assert torch.allclose(straight, shuffled, rtol=1e-5)


def test_mixed_precision_gives_about_the_same_loss() -> None:
    task, values = stage(counts=1000), []
    for enabled in (False, True):
        net = network(task)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss, _ = task.loss(net, images(), PerImageRng(0, torch.arange(8)))
        assert loss.dtype == torch.float32
        values.append(loss.item())
    assert abs(values[0] - values[1]) < 0.03 * values[0]


def planned(size: int, count: int) -> Any:
    return namespace(
        images={"images": namespace(label="set/train", stage=namespace(size=size, count=count))}
    )


def test_a_part_that_does_not_fit_or_has_no_quarters_is_refused() -> None:
    assert stage().side(64) == 56
    assert stage().side(32) == 28
    for crop in (63, 66):
        with pytest.raises(InvalidOption, match=f"{crop} px for images of 64 px") as error:
            stage(crop_size=crop).validate_plan(planned(64, 100))
        assert error.value.option == "crop_size"


def test_a_batch_without_another_image_is_refused_before_training() -> None:
    stage(batch_size=4, accumulation_steps=2).validate_plan(planned(64, 100))
    with pytest.raises(InvalidOption, match="4 images in 4 parts leave single images"):
        stage(batch_size=4, accumulation_steps=4).validate_plan(planned(64, 100))
    with pytest.raises(ValueError, match="set/train has one image"):
        stage().validate_plan(planned(64, 1))
    with pytest.raises(ValueError, match="two images or more"):
        stage().loss(network(stage()), images(1), PerImageRng(0, torch.arange(1)))
