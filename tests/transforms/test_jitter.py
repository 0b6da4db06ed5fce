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
from transfer.transforms.jitter import color_jitter, jitter, jitter_factors
from transfer.transforms.per_image_rng import PerImageRng

factor = st.floats(0, 3, width=32)
turn = st.floats(-0.5, 0.5, width=32)
image = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000)).map(
    lambda of: noise(1, *of) / 255
)


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
        expected = []
        for picture, by in zip(images, factors.tolist(), strict=True):
            for step in order:
                picture = changes[step](picture, by[step])
            expected.append(tv.adjust_hue(picture, by[3]))
        # Torchvision's weights of gray add up to 0.9999, so that the order has a slight effect.
        assert torch.allclose(jitter(images, factors), torch.stack(expected), atol=1e-4)
    one_by_one = [
        tv.adjust_hue(changes[2](changes[1](changes[0](picture, by[0]), by[1]), by[2]), by[3])
        for picture, by in zip(images, factors.tolist(), strict=True)
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
