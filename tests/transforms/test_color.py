from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import functional as tv

from tests.datasets.pictures import noise
from transfer.transforms import color
from transfer.transforms.color import (
    adjust_hue,
    brightness_matrix,
    color_jitter,
    compose_colors,
    contrast_matrix,
    grayscale_matrix,
    jitter,
    jitter_factors,
    lab_to_rgb,
    mean_gray,
    mix_colors,
    project_color,
    projection_matrix,
    random_grayscale,
    rgb_to_lab,
    saturation_matrix,
)
from transfer.transforms.per_image_rng import PerImageRng

TOLERANCE = (
    2e-6  # between ours and torchvision's, of values in [0, 1]: a two-thousandth of a gray level
)

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
    wanted = torch.einsum("bij,bj...->bi...", matrices, images)
    assert mix_colors(images, matrices).shape == shape
    assert torch.allclose(mix_colors(images, matrices), wanted, atol=1e-5)
    turned = images.transpose(1, -1).contiguous().transpose(1, -1)
    assert torch.allclose(mix_colors(turned, matrices), wanted, atol=1e-5)


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
    wanted = images = torch.rand(count, 3, 5, 4, generator=generator)
    for one in maps:
        wanted = mix_colors(wanted, one)
    assert torch.allclose(mix_colors(images, compose_colors(*maps)), wanted, rtol=1e-3, atol=1e-3)


def test_the_projection_removes_green_against_magenta_and_leaves_gray_and_the_rest() -> None:
    chosen = torch.tensor([True, True, True, False])
    colors = torch.tensor([[1.0, -2, 1], [1, 1, 1], [1, 0, -1], [1, -2, 1]])[:, :, None, None]
    wanted = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, -1], [1, -2, 1]])[:, :, None, None]
    assert torch.allclose(mix_colors(colors, projection_matrix(chosen)), wanted, atol=1e-6)


def test_shares_of_the_images_become_gray_and_are_projected() -> None:
    images, count = noise(4000, 2), 4000
    for change, map_of in (
        (random_grayscale, grayscale_matrix),
        (project_color, projection_matrix),
    ):
        changed = change(images, PerImageRng(1, torch.arange(count)), 0.3)
        wanted = mix_colors(images / 255, map_of(torch.ones(count, dtype=torch.bool)))
        chosen, left = (
            (changed - one).abs().flatten(1).amax(1) < 1e-6 for one in (wanted, images / 255)
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
    wanted = torch.stack(
        [tv.adjust_hue(one, by) for one, by in zip(images, turns.tolist(), strict=True)]
    )
    assert torch.allclose(adjust_hue(images, turns), wanted, atol=1e-5)


# Jitter


@settings(deadline=None)
@given(images=image, brightness=factor, contrast=factor, saturation=factor, by=turn)
def test_jitter_stays_within_its_range(
    images: torch.Tensor, brightness: float, contrast: float, saturation: float, by: float
) -> None:
    jittered = jitter(images, torch.tensor([[brightness, contrast, saturation, by]]))
    assert 0 <= jittered.min() <= jittered.max() <= 1
    assert jittered.shape == images.shape


def test_jitter_is_torchvisions_in_order_where_nothing_is_cut_off() -> None:
    images = 0.4 + 0.2 * noise(4) / 255
    factors = torch.tensor(
        [[1.2, 0.8, 1.3, 0.1], [0.9, 1.2, 0.5, -0.3], [1.0, 0.6, 1.4, 0.5], [0.7, 1.1, 0.0, 0.2]]
    )
    changes = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    for order in itertools.permutations(range(3)):  # which makes no difference
        wanted = []
        for one, by in zip(images, factors.tolist(), strict=True):
            for step in order:
                one = changes[step](one, by[step])
            wanted.append(tv.adjust_hue(one, by[3]))
        # Torchvision's weights of gray add up to 0.9999, so that there is a trace of the order.
        assert torch.allclose(jitter(images, factors), torch.stack(wanted), atol=1e-4)
    one_by_one = [
        tv.adjust_hue(changes[2](changes[1](changes[0](one, by[0]), by[1]), by[2]), by[3])
        for one, by in zip(images, factors.tolist(), strict=True)
    ]
    assert torch.allclose(jitter(images, factors), torch.stack(one_by_one), atol=1e-5)


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("by", [0.0, 0.3, 1.7])
def test_jitter_by_one_factor_is_torchvisions_with_its_cut(which: int, by: float) -> None:
    images = noise(3) / 255
    factors = torch.tensor([[1.0, 1, 1, 0]]).repeat(3, 1)
    factors[:, which] = by = by / 4 if which == 3 else by
    change = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[which]
    assert torch.allclose(jitter(images, factors), change(images, by), atol=1e-5)


def test_factors_are_uniform_and_independent_and_some_images_are_left_alone() -> None:
    count = 6000
    factors = jitter_factors(PerImageRng(1, torch.arange(count)), 0.4, 0.8, 1.5, 0.2, 0.8)
    left = (factors == torch.tensor([1.0, 1, 1, 0])).all(1)
    assert abs(left.float().mean().item() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / count)
    drawn = factors[~left].double()
    for values, (low, high) in zip(
        drawn.T, ((0.6, 1.4), (0.2, 1.8), (0, 2.5), (-0.2, 0.2)), strict=True
    ):
        assert stats.kstest(((values - low) / (high - low)).numpy(), "uniform").pvalue > 1e-3
    apart = torch.corrcoef(drawn.T) - torch.eye(4)
    assert apart.abs().max() < 4 / math.sqrt(len(drawn))


def test_images_that_are_not_jittered_stay_as_they_are() -> None:
    images = noise(6)
    assert (
        color_jitter(images, PerImageRng(1, torch.arange(6)), 0.8, 0.8, 0.8, 0.2, p=0)
        - images / 255
    ).abs().max() < 1e-6
    drawn = PerImageRng(1, torch.arange(6))
    assert torch.equal(
        color_jitter(images, PerImageRng(1, torch.arange(6)), 0.8, 0.8, 0.8, 0.2),
        jitter(images, jitter_factors(drawn, 0.8, 0.8, 0.8, 0.2)),
    )


# Lab


def test_lab_of_known_colors() -> None:
    colors = torch.tensor(
        [[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]]
    )
    wanted = torch.tensor(
        [
            [100, 0, 0],
            [0, 0, 0],
            [53.24, 80.09, 67.20],
            [87.73, -86.18, 83.18],
            [32.30, 79.19, -107.86],
            [53.39, 0, 0],
        ]
    )
    assert torch.allclose(rgb_to_lab(colors[:, :, None, None])[:, :, 0, 0], wanted, atol=0.02)


@settings(deadline=None)
@given(images=image, dark=st.floats(0, 1))
def test_lab_and_back_is_the_same_image(images: torch.Tensor, dark: float) -> None:
    images = images * dark
    assert torch.allclose(lab_to_rgb(rgb_to_lab(images)), images, atol=3e-5)


def test_lab_is_scikit_images_within_a_thousandth() -> None:
    color = pytest.importorskip("skimage.color")
    images = torch.cat([noise(2) / 255, noise(2, seed=1) / 2550])
    wanted = color.rgb2lab(images.permute(0, 2, 3, 1).double().numpy())
    assert abs(rgb_to_lab(images).permute(0, 2, 3, 1).numpy() - wanted).max() < 1e-3
    anything = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    anything = (anything - torch.tensor([0, 0.5, 0.5])[:, None, None]) * torch.tensor(
        [100, 200, 200]
    )[:, None, None]
    with pytest.warns(UserWarning, match="negative Z"):  # not all of them are colors
        wanted = color.lab2rgb(anything.permute(0, 2, 3, 1).double().numpy())
    assert abs(lab_to_rgb(anything).permute(0, 2, 3, 1).numpy() - wanted).max() < 1e-4


def test_the_weights_of_gray_are_those_of_torchvision() -> None:
    assert torch.allclose(
        tv.rgb_to_grayscale(torch.eye(3)[:, :, None, None]).flatten(), torch.tensor(color.LUMA)
    )
