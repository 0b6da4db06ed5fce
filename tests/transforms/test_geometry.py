from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from tests.datasets.pictures import GRAY_LEVEL, Fixed, coordinates, noise
from transfer.transforms.geometry import (
    compose,
    crop_map,
    erase,
    erased_boxes,
    flip_map,
    quarter_turns,
    random_flip,
    random_resized_crop,
    random_rotation,
    rotation_map,
    sample,
    tiles,
)
from transfer.transforms.per_image_rng import PerImageRng

side = st.integers(1, 24)


def boxes(
    count: int, size: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[torch.Tensor, ...]:
    """(left, top, width, height) in pixels of the crops of `count` images, found from where their pixels come from."""
    fine = (
        2 * size
    )  # the two middle pixels each way are far from the edge, where coordinates are cut off
    seen = random_resized_crop(
        coordinates(count, size), PerImageRng(3, torch.arange(count)), fine, scale, ratio, flip=0
    )
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
    wanted = tv.resized_crop(
        images / 255,
        top,
        left,
        tall,
        wide,
        [size, size],
        InterpolationMode.BILINEAR,
        antialias=False,
    )
    # Outermost pixels of an enlarged crop may lie between it and its neighbor, which torchvision has cut away.
    edge = math.ceil(size / min(wide, tall) / 2) if size > min(wide, tall) else 0
    inner = slice(edge, size - edge)
    assert (crop - wanted)[:, :, inner, inner].abs().max() < 0.05 * GRAY_LEVEL


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
            random_resized_crop(one, PerImageRng(1, torch.arange(4)), 24, (0.3, 1))
            for one in (images, packed)
        )
    )


# Maps


def at(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Where maps (B, 2, 3) put points (n, 2)."""
    return torch.einsum("bij,nj->bni", maps[:, :, :2], points) + maps[:, None, :, 2]


@settings(deadline=None)
@given(count=st.integers(1, 5), length=st.integers(1, 4), seed=st.integers(0, 1000))
def test_composed_maps_look_one_after_the_other_from_the_last_to_the_first(
    count: int, length: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(count, 2, 3, generator=generator) for _ in range(length)]
    seen = points = torch.randn(7, 2, generator=generator)
    wanted = torch.stack([points] * count)
    for one in reversed(maps):
        wanted = torch.stack([at(one[n : n + 1], wanted[n])[0] for n in range(count)])
    assert torch.allclose(at(compose(*maps), seen), wanted, rtol=1e-4, atol=1e-4)


def test_a_chain_is_one_sampling_of_what_its_steps_give_one_by_one() -> None:
    smooth = tv.gaussian_blur(noise(6, 64) / 255, [15, 15], [4.0, 4.0])
    angles, mirrored = torch.linspace(-40, 40, 6), torch.tensor([True, False] * 3)
    crops = crop_map(PerImageRng(1, torch.arange(6)), (0.3, 0.6), flip=0)
    maps = [rotation_map(angles), flip_map(mirrored), crops]
    one_by_one = smooth
    for step in maps:
        one_by_one = sample(one_by_one, step, 64)
    whole = sample(smooth, compose(*maps), 64)
    assert (
        whole - one_by_one
    ).abs().mean() < GRAY_LEVEL  # they differ by what sampling three times smooths
    turned = torch.stack(
        [tv.rotate(one, float(angle)) for one, angle in zip(smooth, angles, strict=True)]
    )
    assert (
        sample(smooth, compose(flip_map(mirrored), maps[0]), 64) - sample(turned, maps[1], 64)
    ).abs().max() > 0.05


@pytest.mark.parametrize("shape", [(32, 32), (20, 33), (41, 16)])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_a_rotation_is_torchvisions_within_a_hundredth_of_a_gray_level(
    shape: tuple[int, int], mode: str
) -> None:
    images = noise(5, *shape) / 255
    angles = torch.tensor([0.0, 12.3, -45.6, 100.2, 271.4])
    turned = sample(images, rotation_map(angles, shape[1] / shape[0]), shape, mode, padding="zeros")
    each = zip(images, angles.tolist(), strict=True)
    wanted = torch.stack([tv.rotate(one, angle, InterpolationMode(mode)) for one, angle in each])
    apart = (turned - wanted).abs()
    if mode == "nearest":  # where two pixels are equally near, either will do
        assert (apart > 0.01 * GRAY_LEVEL).float().mean() < 2e-3
    else:
        assert apart.max() < 0.01 * GRAY_LEVEL


def test_angles_are_uniform_and_nothing_else_changes() -> None:
    seen = random_rotation(
        coordinates(4000, 9), PerImageRng(1, torch.arange(4000)), 30, padding="border"
    )
    assert (seen[:, :2, 4, 4] - 4.5).abs().max() < 1e-4
    across, down = (seen[:, axis, 4, 5] - seen[:, axis, 4, 4] for axis in (0, 1))
    assert (torch.hypot(across, down) - 1).abs().max() < 1e-4
    angles = torch.rad2deg(torch.atan2(down, across)).double().numpy()
    assert stats.kstest((angles + 30) / 60, "uniform").pvalue > 1e-3


@settings(deadline=None)
@given(height=side, width=side, wanted_height=side, wanted_width=side, count=st.integers(0, 3))
def test_any_size_gives_any_size(
    height: int, width: int, wanted_height: int, wanted_width: int, count: int
) -> None:
    images = noise(count, height, width)
    seen = sample(
        images, flip_map(torch.ones(count, dtype=torch.bool)), (wanted_height, wanted_width)
    )
    assert seen.shape == (count, 3, wanted_height, wanted_width)
    if (height, width) == (wanted_height, wanted_width):
        assert (seen * 255 - images.flip(-1)).abs().max() < 0.01 if count else True


# Quarter turns and mirroring


@settings(deadline=None)
@given(size=side, turns=st.lists(st.integers(-5, 9), max_size=8), seed=st.integers(0, 100))
def test_quarter_turns_are_exact(size: int, turns: list[int], seed: int) -> None:
    images = noise(len(turns), size, seed=seed)
    for given_images in (images, images / 255):
        turned = quarter_turns(given_images, torch.tensor(turns, dtype=torch.int64))
        assert turned.dtype == given_images.dtype
        for one, before, turn in zip(turned, given_images, turns, strict=True):
            assert torch.equal(one, torch.rot90(before, turn, (-2, -1)))


def test_quarter_turns_are_torchvisions_and_the_sampled_ones() -> None:
    images = noise(4) / 255
    turned = quarter_turns(images, torch.arange(4))
    wanted = torch.stack([tv.rotate(one, 90.0 * n) for n, one in enumerate(images)])
    assert torch.equal(turned, wanted)
    assert (
        turned - sample(images, rotation_map(90.0 * torch.arange(4)), 32)
    ).abs().max() < 0.02 * GRAY_LEVEL


def test_only_squares_have_quarter_turns() -> None:
    with pytest.raises(ValueError, match="16 x 20 px cannot be turned by a quarter"):
        quarter_turns(noise(2, 20, 16), torch.zeros(2, dtype=torch.int64))


def test_a_share_of_the_images_is_mirrored_exactly() -> None:
    images = noise(3000, 4, 5)
    flipped = random_flip(images, PerImageRng(1, torch.arange(3000)), 0.3)
    assert flipped.dtype == torch.uint8
    mirrored, same = ((flipped == one).flatten(1).all(1) for one in (images.flip(-1), images))
    assert (mirrored | same).all()
    assert abs(mirrored.float().mean().item() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 3000)
    for probability, wanted in ((0, images), (1, images.flip(-1))):
        assert torch.equal(
            random_flip(images, PerImageRng(1, torch.arange(3000)), probability), wanted
        )


# Tiles


@settings(deadline=None)
@given(
    rows=st.integers(1, 4),
    cols=st.integers(1, 4),
    cell=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    count=st.integers(0, 3),
    channels=st.integers(1, 4),
    data=st.data(),
)
def test_tiles_are_the_parts_of_the_image(
    rows: int, cols: int, cell: tuple[int, int], count: int, channels: int, data: st.DataObject
) -> None:
    tile = data.draw(st.integers(1, min(cell)))
    height, width = rows * cell[0] + data.draw(st.integers(0, rows - 1)), cols * cell[1]
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 100)))
    tops = torch.randint(0, height - tile + 1, (count, rows * cols, channels), generator=generator)
    lefts = torch.randint(0, width - tile + 1, (count, rows * cols, channels), generator=generator)
    shifted = tiles(images, rows, cols, tile, torch.stack((tops, lefts), -1))
    whole = tiles(images, rows, cols, tile, torch.stack((tops, lefts), -1)[:, :, 0])
    middle = tiles(images, rows, cols, tile)
    assert (
        shifted.shape == whole.shape == middle.shape == (count, rows * cols, channels, tile, tile)
    )
    for n in range(count):
        for place in range(rows * cols):
            row, col = (
                place // cols * cell[0] + (cell[0] - tile) // 2,
                place % cols * cell[1] + (cell[1] - tile) // 2,
            )
            assert torch.equal(middle[n, place], images[n, :, row : row + tile, col : col + tile])
            row, col = tops[n, place, 0], lefts[n, place, 0]
            assert torch.equal(whole[n, place], images[n, :, row : row + tile, col : col + tile])
            for channel in range(channels):
                row, col = tops[n, place, channel], lefts[n, place, channel]
                assert torch.equal(
                    shifted[n, place, channel],
                    images[n, channel, row : row + tile, col : col + tile],
                )


def test_tiles_without_room_are_refused() -> None:
    with pytest.raises(ValueError, match="cells of 10 x 10 px have no room for tiles of 11 px"):
        tiles(noise(1), 3, 3, 11)
    for corner in ((-1, 0), (0, -1), (27, 0), (0, 27)):
        with pytest.raises(ValueError, match="tiles of 6 px reach out of images of 32 x 32 px"):
            tiles(noise(1), 1, 1, 6, torch.tensor([[corner]]))
    assert tiles(noise(1), 1, 1, 6, torch.tensor([[[26, 26]]])).shape == (1, 1, 3, 6, 6)


# Erasing


@settings(deadline=None)
@given(height=side, width=side, seed=st.integers(0, 100), value=st.integers(0, 255))
def test_erasing_is_torchvisions_exactly(height: int, width: int, seed: int, value: int) -> None:
    images = noise(8, height, width, seed)
    boxes = erased_boxes(
        PerImageRng(seed, torch.arange(8)), (height, width), 0.8, (0.02, 0.9), (0.2, 5)
    )
    erased = erase(images, boxes, value)
    for one, before, (top, left, tall, wide) in zip(erased, images, boxes.tolist(), strict=True):
        assert 0 <= top <= top + tall <= height
        assert 0 <= left <= left + wide <= width
        assert torch.equal(
            one, tv.erase(before, top, left, tall, wide, torch.tensor(value, dtype=torch.uint8))
        )


def test_areas_shapes_and_places_of_erased_boxes_are_uniform() -> None:
    count = 4000
    boxes = erased_boxes(
        PerImageRng(1, torch.arange(count)), (1000, 2000), 0.7, (0.02, 0.33), (0.5, 2)
    )
    erased = boxes[:, 2] > 0
    assert abs(erased.float().mean().item() - 0.7) < 4 * math.sqrt(0.7 * 0.3 / count)
    top, left, tall, wide = boxes[erased].double().unbind(1)
    spread = {
        "area": ((tall * wide / 2e6) - 0.02) / 0.31,
        "shape": (tall / wide).log() / math.log(4) + 0.5,
        "top": (top + 0.5) / (1001 - tall),
        "left": (left + 0.5) / (2001 - wide),
    }
    for name, share in spread.items():
        assert stats.kstest(share.numpy(), "uniform").pvalue > 1e-3, name


def test_a_box_that_fits_in_no_such_shape_takes_the_nearest_that_does() -> None:
    boxes = erased_boxes(PerImageRng(1, torch.arange(50)), (10, 40), 1, (0.9, 0.9), (2, 3))
    assert (boxes[:, 2] == 10).all()
    assert (boxes[:, 3] == 36).all()
