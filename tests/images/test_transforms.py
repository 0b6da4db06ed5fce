from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from transfer.artifacts import Normalisation
from transfer.images.draw import Draw
from transfer.images.transforms import mix_colours, normalise, random_resized_crop, to_float

GREY_LEVEL = 1 / 255


class Fixed(Draw):
    """Draws given numbers."""

    def __init__(self, numbers: torch.Tensor):
        super().__init__(0, torch.arange(len(numbers)))
        self.numbers = numbers

    def uniform(self, *shape: int) -> torch.Tensor:
        return self.numbers.view(-1, *shape)


def noise(count: int = 4, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def coordinates(count: int, size: int) -> torch.Tensor:
    """Images that say where a pixel is, in pixels: first channel x, second y, third 1."""
    line = torch.arange(size, dtype=torch.float32) + 0.5
    one = torch.stack([line.expand(size, size), line[:, None].expand(size, size), torch.ones(size, size)])
    return one.expand(count, 3, size, size)


def boxes(count: int, size: int, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[torch.Tensor, ...]:
    """(left, top, width, height) in pixels of the crops of `count` images, found from where their pixels come from."""
    fine = 2 * size  # the two middle pixels each way are far from the edge, where coordinates are cut off
    seen = random_resized_crop(coordinates(count, size), Draw(3, torch.arange(count)), fine, scale, ratio, flip=0)
    step_x = seen[:, 0, size, size] - seen[:, 0, size, size - 1]
    step_y = seen[:, 1, size, size] - seen[:, 1, size - 1, size]
    wide, tall = step_x * fine, step_y * fine
    middle_x = (seen[:, 0, size, size] + seen[:, 0, size, size - 1]) / 2
    middle_y = (seen[:, 1, size, size] + seen[:, 1, size - 1, size]) / 2
    return middle_x - wide / 2, middle_y - tall / 2, wide, tall


# Crops


def test_the_whole_image_stays_as_it_is() -> None:
    images = noise()
    for ratio in ((1, 1), (3 / 4, 4 / 3)):
        crop = random_resized_crop(images, Draw(1, torch.arange(4)), 32, (1, 1), ratio, flip=0)
        assert crop.dtype == torch.float32
        assert (crop - images / 255).abs().max() < 0.01 * GREY_LEVEL


def test_a_mirrored_image_is_the_image_backwards() -> None:
    images = noise()
    crop = random_resized_crop(images, Draw(1, torch.arange(4)), 32, (1, 1), (1, 1), flip=1)
    assert (crop - images.flip(-1) / 255).abs().max() < 0.01 * GREY_LEVEL


@pytest.mark.parametrize("size", [20, 32, 50])
def test_mirroring_leaves_the_crop_where_it_is(size: int) -> None:
    images = noise(16)
    plain, mirrored = (
        random_resized_crop(images, Draw(2, torch.arange(16)), size, (0.3, 1), flip=flip) for flip in (0, 1)
    )
    assert (plain.flip(-1) - mirrored).abs().max() < 0.02 * GREY_LEVEL


def test_half_of_the_images_are_mirrored() -> None:
    count = 4000
    images = coordinates(count, 8)
    crop = random_resized_crop(images, Draw(1, torch.arange(count)), 8, (0.5, 1), flip=0.3)
    mirrored = (crop[:, 0, 4, 0] > crop[:, 0, 4, 7]).float().mean().item()
    assert abs(mirrored - 0.3) < 4 * math.sqrt(0.3 * 0.7 / count)


@pytest.mark.parametrize("box", [(0, 0, 32, 32), (3, 5, 24, 18), (16, 0, 16, 20), (1, 2, 30, 29), (10, 12, 8, 8)])
@pytest.mark.parametrize("size", [4, 8, 24, 60])
def test_a_crop_is_torchvisions_within_a_twentieth_of_a_grey_level(box: tuple[int, int, int, int], size: int) -> None:
    left, top, wide, tall = box
    area = wide * tall / 32**2
    room = -math.log(area)
    low, high = max(math.log(1 / 4), -room), min(math.log(4), room)
    share = (math.log(wide / tall) - low) / (high - low) if high > low else 0.5
    places = [left / (32 - wide) if wide < 32 else 0, top / (32 - tall) if tall < 32 else 0]
    images = noise(3)
    draw = Fixed(torch.tensor([[0.0, share, *places, 0.9]] * 3))
    crop = random_resized_crop(images, draw, size, (area, area), (1 / 4, 4), flip=0.5)
    wanted = tv.resized_crop(
        images / 255, top, left, tall, wide, [size, size], InterpolationMode.BILINEAR, antialias=False
    )
    # Outermost pixels of an enlarged crop may lie between it and its neighbour, which torchvision has cut away.
    edge = math.ceil(size / min(wide, tall) / 2) if size > min(wide, tall) else 0
    inner = slice(edge, size - edge)
    assert (crop - wanted)[:, :, inner, inner].abs().max() < 0.05 * GREY_LEVEL


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.6, 1.0), (0.9, 0.9), (1.0, 1.0)])
def test_a_crop_never_reaches_over_the_edge(scale: tuple[float, float]) -> None:
    left, top, wide, tall = boxes(3000, 16, scale, (3 / 4, 4 / 3))
    assert min(left.min(), top.min()) > -1e-3
    assert max((left + wide).max(), (top + tall).max()) < 16 + 1e-3
    ones = random_resized_crop(torch.ones(500, 3, 16, 16), Draw(1, torch.arange(500)), 24, scale)
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
        assert stats.kstest((logs - math.log(ratio[0])) / math.log(ratio[1] / ratio[0]), "uniform").pvalue > 1e-3


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
    whole = random_resized_crop(images, Draw(1, ids), 24, (0.3, 1))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(
        random_resized_crop(images[order], Draw(1, ids[order]), 24, (0.3, 1)), whole[order], atol=1e-6
    )
    changed = images.clone()
    changed[3] = 0
    again = random_resized_crop(changed, Draw(1, ids), 24, (0.3, 1))
    others = torch.arange(20) != 3
    assert torch.equal(again[others], whole[others])
    assert len({tuple(box) for box in torch.stack(boxes(20, 16, (0.3, 1), (1, 1)), 1).tolist()}) == 20


def test_images_in_channels_last_give_the_same_crop() -> None:
    images = noise(4)
    packed = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(*(random_resized_crop(one, Draw(1, torch.arange(4)), 24, (0.3, 1)) for one in (images, packed)))


# Colours


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (5, 3, 9, 4, 4), (5, 3, 7)])
def test_mixing_colours_multiplies_each_pixel_by_its_images_matrix(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    images, matrices = torch.rand(shape, generator=generator), torch.randn(5, 3, 3, generator=generator)
    wanted = torch.einsum("bij,bj...->bi...", matrices, images)
    assert mix_colours(images, matrices).shape == shape
    assert torch.allclose(mix_colours(images, matrices), wanted, atol=1e-5)
    turned = images.transpose(1, -1).contiguous().transpose(1, -1)
    assert torch.allclose(mix_colours(turned, matrices), wanted, atol=1e-5)


def test_mixed_precision_leaves_colours_and_crops_exact() -> None:
    images, matrices = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 3)
    mixed, crop = mix_colours(images, matrices), random_resized_crop(images, Draw(1, torch.arange(4)), 16, (0.3, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mix_colours(images, matrices), mixed)
        assert torch.equal(random_resized_crop(images, Draw(1, torch.arange(4)), 16, (0.3, 1)), crop)


def test_bytes_become_shares_and_are_left_alone_themselves() -> None:
    images = noise()
    before = images.clone()
    assert torch.allclose(to_float(images), images.double().div(255).float(), atol=1e-7)
    assert torch.equal(images, before)
    shares = torch.rand(2, 3, 4, 4)
    assert to_float(shares) is shares


def test_per_channel_is_torchvisions_normalize() -> None:
    how = Normalisation()
    wanted = tv.normalize(noise() / 255, how.mean, how.std)
    assert torch.allclose(normalise(noise(), how), wanted, atol=1e-5)
    assert torch.allclose(normalise(noise() / 255, how), wanted, atol=1e-5)


def test_per_image_gives_zero_mean_and_unit_deviation() -> None:
    images = noise(6) // torch.tensor([1, 2, 4, 8, 16, 32], dtype=torch.uint8)[:, None, None, None]
    flat = normalise(images, Normalisation(per_image=True)).flatten(1)
    assert flat.mean(1).abs().max() < 1e-5
    assert (flat.std(1, correction=0) - 1).abs().max() < 2e-3  # what is added to the deviation shows in dark images


def test_constant_images_give_zeros() -> None:
    images = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(256, 3, 12, 12)
    assert normalise(images, Normalisation(per_image=True)).abs().max() < 1e-3


@pytest.mark.parametrize("per_image", [True, False])
def test_normalising_treats_each_image_alone_and_leaves_its_input(per_image: bool) -> None:
    images, how = torch.rand(4, 3, 8, 8), Normalisation(per_image=per_image)
    before = images.clone()
    whole = normalise(images, how)
    assert torch.equal(images, before)
    assert all(torch.allclose(normalise(images[n : n + 1], how)[0], whole[n], atol=1e-6) for n in range(4))
