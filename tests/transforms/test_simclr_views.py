from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.pictures import noise
from transfer.transforms import simclr_views
from transfer.transforms.filters import gaussian_blur
from transfer.transforms.geometry import random_resized_crop
from transfer.transforms.jitter import color_jitter
from transfer.transforms.per_image_rng import PerImageRng
from transfer.transforms.simclr_views import SimCLRViews

PLAIN = SimCLRViews(32, scale=(1, 1), flip=0, jitter_p=0, gray=0, blur=0)


def with_only(**what: object) -> SimCLRViews:
    return SimCLRViews(**{**vars(PLAIN), **what})


def test_without_anything_the_image_stays_as_it_is() -> None:
    images = noise()
    assert (PLAIN(images, PerImageRng(1, torch.arange(4))) - images / 255).abs().max() < 1e-5


def test_the_crop_is_the_first_draw() -> None:
    images = noise(8, 40)
    seen = with_only(scale=(0.2, 0.6), flip=0.5)(images, PerImageRng(1, torch.arange(8)))
    assert (
        seen - random_resized_crop(images, PerImageRng(1, torch.arange(8)), 32, (0.2, 0.6))
    ).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("option", "share"),
    [("flip", 0.3), ("gray", 0.2), ("jitter_p", 0.8), ("blur", 0.5), ("solarize", 0.2)],
)
def test_each_step_comes_for_its_share_of_the_images(option: str, share: float) -> None:
    count = 3000
    images, rng = noise(count, 8), PerImageRng(1, torch.arange(count))
    plain = SimCLRViews(8, scale=(1, 1), flip=0, jitter_p=0, gray=0, blur=0)
    seen = SimCLRViews(**{**vars(plain), option: share, "blur_sigma": (0.5, 2)})(images, rng)
    changed = (seen - images / 255).abs().flatten(1).amax(1) > 1e-4
    assert abs(changed.float().mean().item() - share) < 4 * math.sqrt(share * (1 - share) / count)


def test_each_step_is_the_transform_of_its_name() -> None:
    images = noise(6)
    shares = images / 255
    seen = {
        name: with_only(**what)(images, PerImageRng(1, torch.arange(6)))
        for name, what in {
            "flip": {"flip": 1},
            "gray": {"gray": 1},
            "blur": {"blur": 1, "blur_sigma": (1.5, 1.5)},
            "solarize": {"solarize": 1},
        }.items()
    }
    gray = shares * torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
    expected = {
        "flip": shares.flip(-1),
        "gray": gray.sum(1, keepdim=True).expand(-1, 3, -1, -1),
        "blur": gaussian_blur(shares, torch.full((6,), 1.5), 3),
        "solarize": torch.minimum(shares, 1 - shares),
    }
    for name, result in seen.items():
        assert torch.allclose(result, expected[name], atol=1e-5), name
    rng = PerImageRng(1, torch.arange(6))
    rng.uniform(5)  # the crop's
    jittered = with_only(jitter=(0.4, 0.3, 0.2, 0.1), jitter_p=1, strength=0.5)(
        images, PerImageRng(1, torch.arange(6))
    )
    assert torch.allclose(jittered, color_jitter(shares, rng, 0.2, 0.15, 0.1, 0.05), atol=1e-5)


@settings(deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 40),
    count=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_any_image_gives_views_in_range(
    height: int, width: int, size: int, count: int, seed: int
) -> None:
    seen = SimCLRViews(size, solarize=0.2)(
        noise(count, height, width, seed), PerImageRng(seed, torch.arange(count))
    )
    assert seen.shape == (count, 3, size, size)
    assert seen.dtype == torch.float32
    assert count == 0 or (seen.min() >= -1e-6 and seen.max() <= 1 + 1e-6)


def test_the_blocks_that_a_processor_works_in_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images, recipe = noise(20), SimCLRViews(24, solarize=0.2)
    seen = []
    for block in (1, 7 * 3 * 24**2, 1 << 30):
        monkeypatch.setattr(simclr_views, "BLOCK", block)
        seen.append(recipe(images, PerImageRng(1, torch.arange(20))))
    assert torch.allclose(seen[0], seen[2], atol=2e-6)
    assert torch.allclose(seen[1], seen[2], atol=2e-6)


def test_two_views_of_an_image_differ() -> None:
    images, rng = noise(8), PerImageRng(1, torch.arange(8))
    first, second = (SimCLRViews(32)(images, rng) for _ in range(2))
    assert (first - second).abs().flatten(1).amax(1).min() > 0.02
