from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from tests.datasets.pictures import GRAY_LEVEL, noise
from transfer.transforms.geometry import (
    affine_map,
    compose,
    crop_map,
    quarter_turns,
    random_flip,
    rotation_map,
    sample,
)
from transfer.transforms.per_image_rng import PerImageRng

side = st.integers(1, 24)


def flip_map(mirrored: torch.Tensor) -> torch.Tensor:
    """Maps (B, 2, 3) that mirror left to right where `mirrored` (B,) is true."""
    unit, zero = torch.ones(len(mirrored)), torch.zeros(len(mirrored))
    return affine_map(torch.where(mirrored, -unit, unit), zero, zero, zero, unit, zero)


def at(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The points (n, 2), mapped by maps (B, 2, 3)."""
    return torch.einsum("bij,nj->bni", maps[:, :, :2], points) + maps[:, None, :, 2]


@settings(deadline=None)
@given(count=st.integers(1, 5), length=st.integers(1, 4), seed=st.integers(0, 1000))
def test_composed_maps_look_one_after_the_other_from_the_last_to_the_first(
    count: int, length: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(count, 2, 3, generator=generator) for _ in range(length)]
    seen = points = torch.randn(7, 2, generator=generator)
    expected = torch.stack([points] * count)
    for inner in reversed(maps):
        expected = torch.stack([at(inner[n : n + 1], expected[n])[0] for n in range(count)])
    assert torch.allclose(at(compose(*maps), seen), expected, rtol=1e-4, atol=1e-4)


def test_a_chain_is_one_sampling_of_what_its_steps_give_one_by_one() -> None:
    smooth = tv.gaussian_blur(noise(6, 64) / 255, [15, 15], [4.0, 4.0])
    angles, mirrored = torch.linspace(-40, 40, 6), torch.tensor([True, False] * 3)
    crops = crop_map(PerImageRng(1, torch.arange(6)), (0.3, 0.6), flip=0)
    maps = [rotation_map(angles), flip_map(mirrored), crops]
    one_by_one = smooth
    for step in maps:
        one_by_one = sample(one_by_one, step, 64)
    whole = sample(smooth, compose(*maps), 64)
    assert (whole - one_by_one).abs().mean() < GRAY_LEVEL  # sampling three times is smoother
    turned = torch.stack(
        [tv.rotate(picture, float(angle)) for picture, angle in zip(smooth, angles, strict=True)]
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
    expected = torch.stack(
        [tv.rotate(picture, angle, InterpolationMode(mode)) for picture, angle in each]
    )
    apart = (turned - expected).abs()
    if mode == "nearest":  # either of two equally near pixels is right
        assert (apart > 0.01 * GRAY_LEVEL).float().mean() < 2e-3
    else:
        assert apart.max() < 0.01 * GRAY_LEVEL


@settings(deadline=None)
@given(height=side, width=side, expected_height=side, expected_width=side, count=st.integers(0, 3))
def test_any_size_gives_any_size(
    height: int, width: int, expected_height: int, expected_width: int, count: int
) -> None:
    images = noise(count, height, width)
    seen = sample(
        images, flip_map(torch.ones(count, dtype=torch.bool)), (expected_height, expected_width)
    )
    assert seen.shape == (count, 3, expected_height, expected_width)
    if (height, width) == (expected_height, expected_width):
        assert (seen * 255 - images.flip(-1)).abs().max() < 0.01 if count else True


# Quarter turns and mirroring


@settings(deadline=None)
@given(size=side, turns=st.lists(st.integers(-5, 9), max_size=8), seed=st.integers(0, 100))
def test_quarter_turns_are_exact(size: int, turns: list[int], seed: int) -> None:
    images = noise(len(turns), size, seed=seed)
    for given_images in (images, images / 255):
        turned = quarter_turns(given_images, torch.tensor(turns, dtype=torch.int64))
        assert turned.dtype == given_images.dtype
        for after, before, turn in zip(turned, given_images, turns, strict=True):
            assert torch.equal(after, torch.rot90(before, turn, (-2, -1)))


def test_quarter_turns_are_torchvisions_and_the_sampled_ones() -> None:
    images = noise(4) / 255
    turned = quarter_turns(images, torch.arange(4))
    expected = torch.stack([tv.rotate(picture, 90.0 * n) for n, picture in enumerate(images)])
    assert torch.equal(turned, expected)
    assert (
        turned - sample(images, rotation_map(90.0 * torch.arange(4)), 32)
    ).abs().max() < 0.02 * GRAY_LEVEL


def test_only_squares_have_quarter_turns() -> None:
    with pytest.raises(ValueError, match="16 x 20 px cannot be rotated by quarter turns"):
        quarter_turns(noise(2, 20, 16), torch.zeros(2, dtype=torch.int64))


def test_a_share_of_the_images_is_mirrored_exactly() -> None:
    images = noise(3000, 4, 5)
    flipped = random_flip(images, PerImageRng(1, torch.arange(3000)), 0.3)
    assert flipped.dtype == torch.uint8
    mirrored, same = (
        (flipped == reference).flatten(1).all(1) for reference in (images.flip(-1), images)
    )
    assert (mirrored | same).all()
    assert abs(mirrored.float().mean().item() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 3000)
    for probability, expected in ((0, images), (1, images.flip(-1))):
        assert torch.equal(
            random_flip(images, PerImageRng(1, torch.arange(3000)), probability), expected
        )
