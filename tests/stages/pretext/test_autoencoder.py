from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from stages.pretext.autoencoder import Autoencoder, gaussian
from tests.stages.pretext.support import gradient, make_stage
from transfer.models.build import build_network
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 32
STD = torch.tensor((0.229, 0.224, 0.225))[:, None, None]


def stage(**options: object) -> Autoencoder:
    return make_stage(
        Autoencoder, backbone="conv4", **{"decoder_width": 4, "bottleneck": 16, **options}
    )


def noise_images(count: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def rng(count: int = 8, seed: int = 0) -> PerImageRng:
    return PerImageRng(seed, torch.arange(count))


def test_the_loss_is_the_mean_squared_error_of_normalized_pixels() -> None:
    task, images = stage(flip=0.0), noise_images(2)
    network = task.network(build_network(task.backbone, 0), DatasetInfo(SIZE, 2, 0)).eval()
    with torch.no_grad():
        loss, _ = task.loss(network, images, rng(2))
        mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
        target = (images / 255 - mean) / STD
        drawn = network["decoder"](network["code"](network["backbone"](target)))
    total = 0.0
    for value, other in zip(drawn.flatten().tolist(), target.flatten().tolist(), strict=True):
        total += (value - other) ** 2
    assert math.isclose(loss, total / drawn.numel(), rel_tol=1e-4)


def test_everything_goes_through_the_bottleneck() -> None:
    task = stage(bottleneck=7)
    network = task.network(build_network(task.backbone, 0), DatasetInfo(SIZE, 8, 0))
    assert network["code"].out_features == 7
    assert next(network["decoder"].parameters()).shape[1] == 7


def test_without_a_bottleneck_the_deepest_map_is_decoded() -> None:
    task = stage(bottleneck=None)
    network = task.network(build_network(task.backbone, 0), DatasetInfo(SIZE, 8, 0))
    loss, _ = task.loss(network, noise_images(), rng())
    loss.backward()
    assert all(gradient(weight).abs().any() for weight in network.parameters())


def test_noise_is_on_what_is_shown_and_never_on_what_is_wanted() -> None:
    images = noise_images()
    clean, _ = stage().pair(images, rng())
    target, seen = stage(noise=0.1).pair(images, rng())
    assert torch.equal(target, clean)
    added = (seen - target) * STD
    assert abs(added.mean()) < 2e-3
    assert abs(added.std() - 0.1) < 2e-3


def test_masked_pixels_become_the_mean_color_in_all_channels() -> None:
    images = noise_images()
    clean, _ = stage().pair(images, rng())
    target, seen = stage(mask_ratio=0.25).pair(images, rng())
    assert torch.equal(target, clean)
    dropped = (seen == 0).all(1)
    assert torch.equal(dropped, (seen == 0).any(1))
    assert torch.equal(seen.movedim(1, -1)[~dropped], target.movedim(1, -1)[~dropped])
    assert abs(dropped.float().mean() - 0.25) < 0.02
    assert len({tuple(value.flatten().tolist()) for value in dropped}) == len(images)


@pytest.mark.parametrize("shape", [(5000,), (3, 41, 41)])
def test_gaussian_numbers_are_gaussian(shape: tuple[int, ...]) -> None:
    numbers = gaussian(PerImageRng(3, torch.arange(4)), *shape)
    assert numbers.shape == (4, *shape)
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 0.01
    first, second = numbers.flatten(1)[:2]
    assert abs(torch.corrcoef(torch.stack((first, second)))[0, 1]) < 0.05


def test_an_image_is_shown_alike_in_any_batch() -> None:
    task, images, ids = stage(noise=0.1, mask_ratio=0.25), noise_images(), torch.arange(8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    for value, other in zip(
        task.pair(images, PerImageRng(7, ids)),
        task.pair(images[order], PerImageRng(7, ids[order])),
        strict=True,
    ):
        assert torch.equal(value[order], other)


@pytest.mark.parametrize("bottleneck", [16, None])
def test_mixed_precision_changes_little(bottleneck: int | None) -> None:
    task, losses = stage(bottleneck=bottleneck), []
    for mixed in (False, True):
        network = task._build(DatasetInfo(SIZE, 8, 0), seed=0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            losses.append(task.loss(network, noise_images(), rng())[0].item())
    assert math.isclose(*losses, rel_tol=0.01)
