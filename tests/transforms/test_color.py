from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as tv

from tests.datasets.pictures import noise
from transfer.transforms import color
from transfer.transforms.color import (
    adjust_hue,
    brightness_matrix,
    compose_colors,
    contrast_matrix,
    grayscale_matrix,
    lab_to_rgb,
    mean_gray,
    mix_colors,
    random_grayscale,
    rgb_to_lab,
    saturation_matrix,
)
from transfer.transforms.per_image_rng import PerImageRng

# Between our values and those of torchvision, in [0, 1]: a two-thousandth of a gray level.
TOLERANCE = 2e-6

factor = st.floats(0, 3, width=32)
turn = st.floats(-0.5, 0.5, width=32)
image = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000)).map(
    lambda of: noise(1, *of) / 255
)


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (5, 3, 9, 4, 4), (5, 3, 7)])
def test_mixing_colors_multiplies_each_pixel_by_its_images_matrix(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    images, matrices = (
        torch.rand(shape, generator=generator),
        torch.randn(5, 3, 3, generator=generator),
    )
    expected = torch.einsum("bij,bj...->bi...", matrices, images)
    assert mix_colors(images, matrices).shape == shape
    assert torch.allclose(mix_colors(images, matrices), expected, atol=1e-5)
    turned = images.transpose(1, -1).contiguous().transpose(1, -1)
    assert torch.allclose(mix_colors(turned, matrices), expected, atol=1e-5)


# Maps of colors


@settings(deadline=None)
@given(images=image, by=factor)
def test_each_map_is_torchvisions(images: torch.Tensor, by: float) -> None:
    factors = torch.tensor([by])
    assert torch.allclose(
        mix_colors(images, brightness_matrix(factors)).clamp(0, 1),
        tv.adjust_brightness(images, by),
        atol=TOLERANCE,
    )
    assert torch.allclose(
        mix_colors(images, saturation_matrix(factors)).clamp(0, 1),
        tv.adjust_saturation(images, by),
        atol=TOLERANCE,
    )
    contrast = mix_colors(images, contrast_matrix(factors, mean_gray(images))).clamp(0, 1)
    assert torch.allclose(contrast, tv.adjust_contrast(images, by), atol=TOLERANCE)
    gray = mix_colors(images, grayscale_matrix(torch.tensor([True])))
    assert torch.allclose(gray, tv.rgb_to_grayscale(images, 3), atol=TOLERANCE)
    assert torch.equal(mix_colors(images, grayscale_matrix(torch.tensor([False]))), images)


@settings(deadline=None)
@given(length=st.integers(1, 4), count=st.integers(1, 4), seed=st.integers(0, 1000))
def test_composed_maps_are_the_maps_one_after_the_other(length: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(count, 3, 4, generator=generator) for _ in range(length)]
    expected = images = torch.rand(count, 3, 5, 4, generator=generator)
    for matrix in maps:
        expected = mix_colors(expected, matrix)
    assert torch.allclose(mix_colors(images, compose_colors(*maps)), expected, rtol=1e-3, atol=1e-3)


def test_the_projection_removes_green_against_magenta_and_leaves_gray_and_the_rest() -> None:
    colors = torch.tensor([[1.0, -2, 1], [1, 1, 1], [1, 0, -1]])[:, :, None, None]
    expected = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, -1]])[:, :, None, None]
    projection = torch.tensor(color.PROJECTION).expand(3, 3, 3)
    assert torch.allclose(mix_colors(colors, projection), expected, atol=1e-6)


def test_a_share_of_the_images_becomes_gray() -> None:
    images, count = noise(4000, 2), 4000
    changed = random_grayscale(images, PerImageRng(1, torch.arange(count)), 0.3)
    gray = mix_colors(images / 255, grayscale_matrix(torch.ones(count, dtype=torch.bool)))
    chosen, left = (
        (changed - reference).abs().flatten(1).amax(1) < 1e-6 for reference in (gray, images / 255)
    )
    assert (chosen | left).all()
    assert abs(chosen.float().mean().item() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / count)


# Hue


@settings(deadline=None)
@given(images=image, by=turn)
def test_hue_is_torchvisions(images: torch.Tensor, by: float) -> None:
    assert torch.allclose(
        adjust_hue(images, torch.tensor([by])), tv.adjust_hue(images, by), atol=1e-5
    )


@pytest.mark.parametrize("by", [-0.5, -0.25, -0.1, 0, 1 / 6, 1 / 3, 0.5])
def test_hue_of_every_corner_edge_and_gray_is_torchvisions(by: float) -> None:
    levels = torch.tensor([0, 0.2, 0.5, 0.5 + 1e-6, 1])
    images = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).flatten(1)[
        None, :, :, None
    ]
    assert torch.allclose(
        adjust_hue(images, torch.tensor([by])), tv.adjust_hue(images, by), atol=1e-5
    )


def test_a_third_of_a_turn_exchanges_the_channels_and_a_whole_one_nothing() -> None:
    images = noise(3) / 255
    assert torch.allclose(
        adjust_hue(images, torch.full((3,), 1 / 3)), images[:, [2, 0, 1]], atol=1e-5
    )
    for turns in (0.0, 1.0, -2.0):
        assert torch.allclose(adjust_hue(images, torch.full((3,), turns)), images, atol=1e-5)


def test_each_image_has_its_own_turn() -> None:
    images, turns = noise(8) / 255, torch.linspace(-0.5, 0.5, 8)
    expected = torch.stack(
        [tv.adjust_hue(picture, by) for picture, by in zip(images, turns.tolist(), strict=True)]
    )
    assert torch.allclose(adjust_hue(images, turns), expected, atol=1e-5)


# Lab


def test_lab_of_known_colors() -> None:
    colors = torch.tensor(
        [[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]]
    )
    expected = torch.tensor(
        [
            [100, 0, 0],
            [0, 0, 0],
            [53.24, 80.09, 67.20],
            [87.73, -86.18, 83.18],
            [32.30, 79.19, -107.86],
            [53.39, 0, 0],
        ]
    )
    assert torch.allclose(rgb_to_lab(colors[:, :, None, None])[:, :, 0, 0], expected, atol=0.02)


@settings(deadline=None)
@given(images=image, dark=st.floats(0, 1))
def test_lab_and_back_is_the_same_image(images: torch.Tensor, dark: float) -> None:
    images = images * dark
    assert torch.allclose(lab_to_rgb(rgb_to_lab(images)), images, atol=3e-5)


def test_lab_is_scikit_images_within_a_thousandth() -> None:
    color = pytest.importorskip("skimage.color")
    images = torch.cat([noise(2) / 255, noise(2, seed=1) / 2550])
    expected = color.rgb2lab(images.permute(0, 2, 3, 1).double().numpy())
    assert abs(rgb_to_lab(images).permute(0, 2, 3, 1).numpy() - expected).max() < 1e-3
    anything = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    anything = (anything - torch.tensor([0, 0.5, 0.5])[:, None, None]) * torch.tensor(
        [100, 200, 200]
    )[:, None, None]
    with pytest.warns(UserWarning, match="negative Z"):  # not all of them are colors
        expected = color.lab2rgb(anything.permute(0, 2, 3, 1).double().numpy())
    assert abs(lab_to_rgb(anything).permute(0, 2, 3, 1).numpy() - expected).max() < 1e-4


def test_the_weights_of_gray_are_those_of_torchvision() -> None:
    assert torch.allclose(
        tv.rgb_to_grayscale(torch.eye(3)[:, :, None, None]).flatten(), torch.tensor(color.LUMA)
    )
