from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from tests.datasets.pictures import GRAY_LEVEL, Fixed, coordinates, noise
from transfer.transforms.geometry import (
    random_resized_crop,
)
from transfer.transforms.per_image_rng import PerImageRng


def boxes(
    count: int, size: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[torch.Tensor, ...]:
    """(left, top, width, height) in px of the crops of `count` images, from their coordinates."""
    fine = 2 * size  # the two middle pixels are far from the edge, where coordinates are clipped
    seen = random_resized_crop(
        coordinates(count, size), PerImageRng(3, torch.arange(count)), fine, scale, ratio, flip=0
    )
    step_x = seen[:, 0, size, size] - seen[:, 0, size, size - 1]
    step_y = seen[:, 1, size, size] - seen[:, 1, size - 1, size]
    wide, tall = step_x * fine, step_y * fine
    middle_x = (seen[:, 0, size, size] + seen[:, 0, size, size - 1]) / 2
    middle_y = (seen[:, 1, size, size] + seen[:, 1, size - 1, size]) / 2
    return middle_x - wide / 2, middle_y - tall / 2, wide, tall


def test_the_whole_image_stays_as_it_is() -> None:
    images = noise()
    for ratio in ((1, 1), (3 / 4, 4 / 3)):
        crop = random_resized_crop(
            images, PerImageRng(1, torch.arange(4)), 32, (1, 1), ratio, flip=0
        )
        assert crop.dtype == torch.float32
        assert (crop - images / 255).abs().max() < 0.01 * GRAY_LEVEL


def test_a_mirrored_image_is_the_image_backwards() -> None:
    images = noise()
    crop = random_resized_crop(images, PerImageRng(1, torch.arange(4)), 32, (1, 1), (1, 1), flip=1)
    assert (crop - images.flip(-1) / 255).abs().max() < 0.01 * GRAY_LEVEL


@pytest.mark.parametrize("size", [20, 32, 50])
def test_mirroring_leaves_the_crop_where_it_is(size: int) -> None:
    images = noise(16)
    plain, mirrored = (
        random_resized_crop(images, PerImageRng(2, torch.arange(16)), size, (0.3, 1), flip=flip)
        for flip in (0, 1)
    )
    assert (plain.flip(-1) - mirrored).abs().max() < 0.02 * GRAY_LEVEL


def test_half_of_the_images_are_mirrored() -> None:
    count = 4000
    images = coordinates(count, 8)
    crop = random_resized_crop(images, PerImageRng(1, torch.arange(count)), 8, (0.5, 1), flip=0.3)
    mirrored = (crop[:, 0, 4, 0] > crop[:, 0, 4, 7]).float().mean().item()
    assert abs(mirrored - 0.3) < 4 * math.sqrt(0.3 * 0.7 / count)


@pytest.mark.parametrize(
    "box", [(0, 0, 32, 32), (3, 5, 24, 18), (16, 0, 16, 20), (1, 2, 30, 29), (10, 12, 8, 8)]
)
@pytest.mark.parametrize("size", [4, 8, 24, 60])
def test_a_crop_is_torchvisions_within_a_twentieth_of_a_gray_level(
    box: tuple[int, int, int, int], size: int
) -> None:
    left, top, wide, tall = box
    area = wide * tall / 32**2
    room = -math.log(area)
    low, high = max(math.log(1 / 4), -room), min(math.log(4), room)
    share = (math.log(wide / tall) - low) / (high - low) if high > low else 0.5
    places = [left / (32 - wide) if wide < 32 else 0, top / (32 - tall) if tall < 32 else 0]
    images = noise(3)
    rng = Fixed(torch.tensor([[0.0, share, *places, 0.9]] * 3))
    crop = random_resized_crop(images, rng, size, (area, area), (1 / 4, 4), flip=0.5)
    expected = tv.resized_crop(
        images / 255,
        top,
        left,
        tall,
        wide,
        [size, size],
        InterpolationMode.BILINEAR,
        antialias=False,
    )
    # Outermost pixels of an enlarged crop interpolate with pixels outside of it, which torchvision
    # does not have.
    edge = math.ceil(size / min(wide, tall) / 2) if size > min(wide, tall) else 0
    inner = slice(edge, size - edge)
    assert (crop - expected)[:, :, inner, inner].abs().max() < 0.05 * GRAY_LEVEL


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.6, 1.0), (0.9, 0.9), (1.0, 1.0)])
def test_a_crop_never_reaches_over_the_edge(scale: tuple[float, float]) -> None:
    left, top, wide, tall = boxes(3000, 16, scale, (3 / 4, 4 / 3))
    assert min(left.min(), top.min()) > -1e-3
    assert max((left + wide).max(), (top + tall).max()) < 16 + 1e-3
    ones = random_resized_crop(
        torch.ones(500, 3, 16, 16), PerImageRng(1, torch.arange(500)), 24, scale
    )
    assert (ones - 1).abs().max() < 1e-5  # nothing from outside, which would be dark


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.2, 0.7), (3 / 4, 4 / 3)), ((0.08, 1.0), (1, 1)), ((0.5, 1), (0.5, 2))]
)
def test_areas_are_uniform_within_the_scale_and_shapes_within_the_ratio(
    scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    _, _, wide, tall = boxes(4000, 16, scale, ratio)
    area, shape = (wide * tall / 256).double().numpy(), (wide / tall).double().numpy()
    assert scale[0] - 1e-3 < area.min() < area.max() < scale[1] + 1e-3
    assert stats.kstest((area - scale[0]) / (scale[1] - scale[0]), "uniform").pvalue > 1e-3
    assert ratio[0] - 1e-3 < shape.min() < shape.max() < ratio[1] + 1e-3
    if ratio[1] > ratio[0] and scale[1] * ratio[1] < 1:  # every shape fits
        logs = torch.from_numpy(shape).log().numpy()
        assert (
            stats.kstest(
                (logs - math.log(ratio[0])) / math.log(ratio[1] / ratio[0]), "uniform"
            ).pvalue
            > 1e-3
        )


def test_places_are_uniform_over_where_the_crop_fits() -> None:
    left, top, wide, tall = boxes(4000, 16, (0.2, 0.5), (3 / 4, 4 / 3))
    for place, room in ((left, 16 - wide), (top, 16 - tall)):
        assert stats.kstest((place / room).numpy(), "uniform").pvalue > 1e-3


def test_a_shape_that_fits_nowhere_gives_the_nearest_that_does() -> None:
    left, top, wide, tall = boxes(50, 16, (1, 1), (1.2, 1.5))
    assert torch.allclose(wide, torch.full((50,), 16.0), atol=1e-3)
    assert torch.allclose(tall, wide, atol=1e-3)
    assert torch.allclose(left, top, atol=1e-3)


def test_each_image_of_a_batch_is_cropped_by_its_own_draw_alone() -> None:
    images, ids = noise(20), torch.arange(100, 120)
    whole = random_resized_crop(images, PerImageRng(1, ids), 24, (0.3, 1))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(
        random_resized_crop(images[order], PerImageRng(1, ids[order]), 24, (0.3, 1)),
        whole[order],
        atol=1e-6,
    )
    changed = images.clone()
    changed[3] = 0
    again = random_resized_crop(changed, PerImageRng(1, ids), 24, (0.3, 1))
    others = torch.arange(20) != 3
    assert torch.equal(again[others], whole[others])
    assert (
        len({tuple(box) for box in torch.stack(boxes(20, 16, (0.3, 1), (1, 1)), 1).tolist()}) == 20
    )


def test_images_in_channels_last_give_the_same_crop() -> None:
    images = noise(4)
    packed = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(
        *(
            random_resized_crop(layout, PerImageRng(1, torch.arange(4)), 24, (0.3, 1))
            for layout in (images, packed)
        )
    )
