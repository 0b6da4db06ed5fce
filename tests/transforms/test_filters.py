from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import functional as tv

from tests.datasets.pictures import noise
from transfer.transforms.filters import (
    blur_kernel,
    blur_sigmas,
    gaussian_blur,
    solarize,
)
from transfer.transforms.per_image_rng import PerImageRng


@settings(deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    count=st.integers(1, 4),
    seed=st.integers(0, 100),
    data=st.data(),
)
def test_blur_is_torchvisions(
    height: int, width: int, count: int, seed: int, data: st.DataObject
) -> None:
    kernel = 2 * data.draw(st.integers(0, min(height, width) - 1)) + 1
    sigmas = data.draw(st.lists(st.floats(0.125, 6, width=32), min_size=count, max_size=count))
    images = noise(count, height, width, seed) / 255
    blurred = gaussian_blur(images, torch.tensor(sigmas), kernel)
    expected = torch.stack(
        [
            tv.gaussian_blur(image, [kernel] * 2, [by] * 2)
            for image, by in zip(images, sigmas, strict=True)
        ]
    )
    assert torch.allclose(blurred, expected, atol=3e-6)


def test_what_has_no_sigma_is_left_alone_and_a_constant_stays_one() -> None:
    images = noise(6) / 255
    sigmas = torch.tensor([0, 1.0, 0, 0.5, 2, 0])
    blurred = gaussian_blur(images, sigmas, 9)
    assert torch.equal(blurred[sigmas == 0], images[sigmas == 0])
    assert (blurred[sigmas > 0] - images[sigmas > 0]).abs().amax((1, 2, 3)).min() > 0.05
    assert torch.equal(gaussian_blur(images, torch.zeros(6), 9), images)
    flat = torch.full((1, 3, 32, 32), 0.7)
    assert torch.allclose(gaussian_blur(flat, torch.ones(1), 9), flat, atol=1e-6)


def test_what_is_kept_from_inference_serves_for_gradients() -> None:
    images = noise(2, 27) / 255
    with torch.inference_mode():
        gaussian_blur(images, torch.ones(2), 5)
    images.requires_grad_()
    gaussian_blur(images, torch.ones(2), 5).sum().backward()
    assert images.grad is not None
    assert torch.allclose(images.grad.sum(), torch.tensor(float(images.numel())))


@pytest.mark.parametrize("kernel", [0, -3, 4, 65])
def test_a_kernel_that_is_even_or_too_large_is_refused(kernel: int) -> None:
    with pytest.raises(
        ValueError, match=f"a blur of {kernel} px: the width must be odd and below 64 px"
    ):
        gaussian_blur(noise(1, 32, 40), torch.ones(1), kernel)


@pytest.mark.parametrize(("side", "kernel"), [(1, 1), (2, 3), (32, 3), (96, 9), (224, 23)])
def test_the_kernel_is_a_tenth_of_the_side(side: int, kernel: int) -> None:
    assert blur_kernel(side) == kernel
    assert gaussian_blur(noise(2, side), torch.ones(2), kernel).shape == (2, 3, side, side)


def test_sigmas_are_uniform_and_only_a_share_of_the_images_has_one() -> None:
    sigmas = blur_sigmas(PerImageRng(1, torch.arange(5000)), (0.1, 2), 0.4)
    assert abs((sigmas > 0).float().mean().item() - 0.4) < 4 * math.sqrt(0.4 * 0.6 / 5000)
    chosen = sigmas[sigmas > 0].double().numpy()
    assert stats.kstest((chosen - 0.1) / 1.9, "uniform").pvalue > 1e-3


@settings(deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    threshold=st.floats(0, 1, width=32),
    seed=st.integers(0, 99),
)
def test_solarization_is_torchvisions_exactly(
    height: int, width: int, threshold: float, seed: int
) -> None:
    images = noise(4, height, width, seed) / 255
    chosen = torch.tensor([True, False, True, False])
    solarized = solarize(images, chosen, threshold)
    assert torch.equal(solarized[chosen], tv.solarize(images[chosen], threshold))
    assert torch.equal(solarized[~chosen], images[~chosen])
