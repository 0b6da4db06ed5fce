from __future__ import annotations

import colorsys
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.pretext.exemplar import Exemplar, color_directions, move, recolor, semi_hard
from tests.stages.handmade import make_work, pack_images
from tests.stages.pretext.support import make_stage, namespace
from transfer.artifacts import PseudoLabels
from transfer.errors import InvalidOption, TransferError
from transfer.models.build import build_network
from transfer.stage.context import StageContext
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

COUNT, SIZE = 24, 32
PIXELS = np.random.RandomState(0).randint(0, 256, (COUNT, SIZE, SIZE, 3)).astype(np.uint8)
IMAGES = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


def task(**options: Any) -> Exemplar:
    return make_stage(
        Exemplar,
        **{"backbone": "conv4", "embedding_dim": 16, "batch_size": 8, "epochs": 1, **options},
    )


def begun(pretext: Exemplar, work: StageContext) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = pretext.network(build_network(pretext.backbone, 0), pretext.dataset_info(work))
    pretext.begin(network, work)
    return network


@pytest.fixture
def work(tmp_path: Path) -> StageContext:
    return make_work(tmp_path, {"images": pack_images(tmp_path / "set", PIXELS)})


def labeled(tmp_path: Path, ids: list[str], labels: list[int]) -> StageContext:
    (tmp_path / "labels").mkdir()
    zeros = np.zeros(len(ids))
    PseudoLabels.write(
        tmp_path / "labels", ids, np.array(labels), np.arange(max(labels) + 1), zeros, zeros
    )
    images = {"images": pack_images(tmp_path / "set", PIXELS)}
    return make_work(tmp_path, images, {"labels": PseudoLabels(tmp_path / "labels")})


def test_every_image_is_a_class_of_its_own_and_its_copies_share_it(work: StageContext) -> None:
    pretext = task(views=3)
    network = begun(pretext, work)
    assert network["head"].out_features == COUNT
    assert network.classes.tolist() == list(range(COUNT))
    assert pretext.chance(pretext.dataset_info(work)) == 1 / COUNT
    network["head"].weight.data.zero_()
    network["head"].bias.data[5] = 9.0  # always says 5
    _, figures = pretext.loss(
        network, IMAGES[[3, 5, 7, 11]], PerImageRng(0, torch.tensor([3, 5, 7, 11]))
    )
    assert figures["accuracy"] == 0.25
    assert (
        pretext.transform(
            IMAGES[:4], PerImageRng(0, torch.arange(4)), network.mean, network.directions
        ).shape[0]
        == 12
    )


def test_copies_are_of_the_image_whose_class_they_have(work: StageContext) -> None:
    for objective in ("classes", "triplet"):
        pretext = task(views=3, objective=objective, grayscale=0.0)
        network = begun(pretext, work)
        black = torch.zeros(4, 3, SIZE, SIZE, dtype=torch.uint8)
        black[2] = 255
        seen = pretext.transform(
            black, PerImageRng(0, torch.arange(4)), torch.zeros(3), network.directions
        ).unflatten(0, (3, 4))
        assert (seen.flatten(2).mean(2).argmax(1) == 2).all()


def test_with_pseudo_labels_a_cluster_is_the_class_and_images_without_one_are_left_out(
    tmp_path: Path,
) -> None:
    known = [f"train/{row}" for row in (20, 3, 8, 9, 15)]
    work = labeled(tmp_path, known, [2, 0, 1, 1, 0])
    pretext = task(labels="labels")
    network = begun(pretext, work)
    assert network["head"].out_features == 3
    assert pretext.chance(pretext.dataset_info(work)) == 1 / 3
    assert {row: int(network.classes[row]) for row in (20, 3, 8, 9, 15)} == {
        20: 2,
        3: 0,
        8: 1,
        9: 1,
        15: 0,
    }
    assert sorted(pretext.order(network, work, 0)) == [3, 8, 9, 15, 20]
    assert work.notes == ["19 of 24 images have no pseudo-label and are left out"]
    orders = {tuple(pretext.order(network, work, epoch)) for epoch in range(8)}
    assert len(orders) > 4


def test_a_run_with_pseudo_labels_trains_on_the_labeled_images_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    original = Exemplar.loss
    monkeypatch.setattr(
        Exemplar,
        "loss",
        lambda self, net, images, rng: (
            seen.update(rng.ids.tolist()),
            original(self, net, images, rng),
        )[1],
    )
    work = labeled(tmp_path, [f"train/{row}" for row in range(16)], [row % 4 for row in range(16)])
    task(labels="labels", epochs=2).run(work)
    assert seen == set(range(16))


def test_labels_of_another_set_are_an_error(tmp_path: Path) -> None:
    work = labeled(tmp_path, ["other/1", "other/2"], [0, 1])
    with pytest.raises(TransferError, match="none of the images has a pseudo-label"):
        begun(task(labels="labels"), work)


def literally(embedded: Tensor, classes: list[int], margin: float) -> float:
    """The semi-hard triplet loss, triplet by triplet."""
    rows = [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in embedded.tolist()]
    count, total, pairs = len(rows), 0.0, 0

    def away(a: int, b: int) -> float:
        return sum((x - y) ** 2 for x, y in zip(rows[a], rows[b], strict=True))

    for a in range(count):
        negatives = [away(a, n) for n in range(count) if classes[n] != classes[a]]
        for p in range(count):
            if p != a and classes[p] == classes[a] and negatives:
                farther = [distance for distance in negatives if distance > away(a, p)]
                total += max(
                    0.0, margin + away(a, p) - (min(farther) if farther else max(negatives))
                )
                pairs += 1
    return total / pairs


@pytest.mark.parametrize("classes", [[0, 1, 2, 3] * 3, [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5]])
def test_the_triplet_loss_is_that_of_a_literal_loop(classes: list[int]) -> None:
    embedded = torch.randn(12, 5, generator=torch.Generator().manual_seed(4))
    loss, _ = semi_hard(embedded, torch.tensor(classes), 0.5)
    assert loss.item() == pytest.approx(literally(embedded, classes, 0.5), rel=1e-5)


def test_each_embedding_is_brought_to_unit_length_by_itself() -> None:
    embedded = torch.randn(12, 5, generator=torch.Generator().manual_seed(4))
    classes = torch.tensor([0, 1, 2] * 4)
    loss, _ = semi_hard(embedded, classes, 0.5)
    longer = embedded * torch.linspace(0.1, 30, 12)[:, None]
    assert torch.isclose(semi_hard(longer, classes, 0.5)[0], loss, atol=1e-5)


def test_copies_that_are_together_and_apart_from_others_have_no_triplet_loss() -> None:
    loss, figures = semi_hard(torch.eye(4).repeat(3, 1), torch.arange(4).repeat(3), 0.5)
    assert loss == 0
    assert figures["accuracy"] == 1
    one_class, _ = semi_hard(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64), 0.5)
    assert one_class == 0, "without negatives there is nothing to learn"


@pytest.mark.parametrize("objective", ["classes", "triplet"])
def test_losses_are_near_under_mixed_precision_and_the_same_in_any_order(
    objective: str, work: StageContext
) -> None:
    pretext, ids = task(objective=objective, views=3), torch.arange(8)
    network = begun(pretext, work)
    plain, _ = pretext.loss(network, IMAGES[:8], PerImageRng(0, ids))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = pretext.loss(network, IMAGES[:8], PerImageRng(0, ids))
    assert mixed.item() == pytest.approx(plain.item(), rel=0.05)
    order = torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
    again, _ = pretext.loss(network, IMAGES[order], PerImageRng(0, order))
    assert torch.isclose(plain, again, atol=1e-4)


def test_moves_stay_within_the_papers_bounds_and_use_them() -> None:
    count, size = 2000, 33
    line = (torch.arange(size) - 16) / size
    across = line.expand(count, 3, size, size)
    seen = [
        move(image, PerImageRng(1, torch.arange(count)))[:, 0]
        for image in (across, across.transpose(2, 3))
    ]
    # The slopes in the center are the map's matrix. Beyond a border the image is mirrored, so
    # only centers inside count.
    middle = torch.stack([pixels[:, 16, 16] for pixels in seen], 1)
    inner = middle.abs().amax(1) < 0.3
    slopes = torch.stack(
        [
            torch.stack(
                (pixels[:, 16, 17] - pixels[:, 16, 16], pixels[:, 17, 16] - pixels[:, 16, 16]), 1
            )
            for pixels in seen
        ],
        1,
    )
    slopes = slopes[inner] * size
    scale = 1 / torch.linalg.det(slopes).sqrt()
    angle = torch.atan2(slopes[:, 1, 0], slopes[:, 0, 0]) * 180 / math.pi
    assert 0.69 < scale.min() < 0.72
    assert 1.36 < scale.max() < 1.41
    assert 19 < angle.max() < 20.1
    assert -20.1 < angle.min() < -19
    assert middle.abs().max() < 0.21
    assert middle.abs().amax(0).min() > 0.18


class Fixed(PerImageRng):
    """Random numbers that are always the same number."""

    def __init__(self, value: float, count: int):
        self.value, self.count = value, count

    def uniform(self, *shape: int) -> Tensor:
        return torch.full((self.count, *shape), self.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_colors_change_as_in_hue_saturation_and_value_pixel_by_pixel(share: float) -> None:
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mean, axes = torch.tensor([0.4, 0.5, 0.6]), torch.linalg.qr(torch.randn(3, 3))[0]
    result = recolor(image, Fixed(share, 1), mean, axes)[0]
    stretch = 4**share / 2
    for row in range(4):
        for column in range(4):
            pixel = (mean + stretch * (image[0, :, row, column] - mean)).clamp(0, 1).tolist()
            if max(pixel) - min(pixel) < 0.01:
                continue  # a gray pixel has no hue; it stays gray
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            hue = (hue + 0.2 * share - 0.1) % 1
            power, factor, shift = 16**share / 4, 0.7 * 2**share, 0.2 * share - 0.1
            saturation, value = (
                min(1, max(0, value_**power * factor + shift)) for value_ in (saturation, value)
            )
            expected = torch.tensor(colorsys.hsv_to_rgb(hue, saturation, value))
            assert torch.allclose(result[:, row, column], expected, atol=2e-3), (row, column)


def test_gray_images_stay_gray_and_colors_stay_colors() -> None:
    gray = torch.rand(50, 1, 8, 8).expand(50, 3, 8, 8)
    along = torch.linalg.qr(torch.tensor([[1.0, 1, 0], [1, 0, 1], [1, 0, 0]]))[
        0
    ]  # gray is one of the directions
    seen = recolor(gray, PerImageRng(0, torch.arange(50)), torch.full((3,), 0.5), along)
    assert (seen.amax(1) - seen.amin(1)).max() < 1e-3
    wild = recolor(IMAGES, PerImageRng(0, torch.arange(COUNT)), *color_directions(IMAGES))
    assert wild.min() >= 0
    assert wild.max() <= 1


def test_directions_are_those_in_which_the_sets_colors_vary(work: StageContext) -> None:
    network = begun(task(), work)
    pixels = PIXELS.reshape(-1, 3) / 255
    assert np.allclose(network.mean, pixels.mean(0), atol=1e-4)
    turned = (pixels - pixels.mean(0)) @ network.directions.numpy()
    covariance = np.cov(turned.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-5


def test_a_last_layer_that_no_memory_holds_is_refused_with_ways_out() -> None:
    pretext = task()
    with pytest.raises(
        ValueError, match=r"20,000,000 classes of 64 features are 5 GB.*cluster them first"
    ):
        pretext.network(build_network(pretext.backbone, 0), DatasetInfo(SIZE, 20_000_000, 0))
    task(objective="triplet").network(build_network(pretext.backbone, 0), DatasetInfo(SIZE, 200, 0))


def test_a_triplet_needs_two_copies_and_two_images() -> None:
    pack = namespace(stage=namespace(count=100), label="set/train")
    planned = namespace(images={"images": pack})
    with pytest.raises(InvalidOption, match="two copies") as caught:
        task(objective="triplet", views=1).validate_plan(planned)
    assert caught.value.option == "views"
    with pytest.raises(InvalidOption, match="two images"):
        task(objective="triplet", accumulation_steps=8).validate_plan(planned)
    task(objective="triplet").validate_plan(planned)
    task(accumulation_steps=8).validate_plan(planned)


def test_chance_is_that_of_an_images_other_copies() -> None:
    assert task(objective="triplet", batch_size=8).chance(DatasetInfo(SIZE, 100, 0)) == 7 / 63
    assert task(objective="triplet", labels="labels").chance(DatasetInfo(SIZE, 100, 5)) is None
    assert (make_stage(Exemplar, objective="triplet").copies, make_stage(Exemplar).copies) == (8, 1)
