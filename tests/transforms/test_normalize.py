from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torchvision.transforms import functional as tv

from tests.datasets.pictures import noise
from transfer.transforms import color, filters, geometry, jitter
from transfer.transforms.color import to_float
from transfer.transforms.erasing import random_erase
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.transforms.simclr_views import SimCLRViews
from transfer.transforms.tiles import tiles

Transform = Callable[[torch.Tensor, PerImageRng], torch.Tensor]

# Every random transform, and whether it keeps uint8.
RANDOM: dict[str, tuple[Transform, bool]] = {
    "crop": (lambda images, rng: geometry.random_resized_crop(images, rng, 24, (0.3, 1)), False),
    "rotation": (
        lambda images, rng: geometry.sample(images, geometry.rotation_map(80 * rng.uniform()), 32),
        False,
    ),
    "turns": (lambda images, rng: geometry.quarter_turns(images, rng.integers(4)), True),
    "flip": (geometry.random_flip, True),
    "tiles": (lambda images, rng: tiles(images, 3, 3, 8, rng.integers(24, 9, 2)), True),
    "erasing": (random_erase, True),
    "jitter": (
        lambda images, rng: jitter.color_jitter(images, rng, 0.8, 0.8, 0.8, 0.2, 0.8),
        False,
    ),
    "gray": (lambda images, rng: color.random_grayscale(images, rng, 0.5), False),
    "lab and back": (lambda images, _: color.lab_to_rgb(color.rgb_to_lab(images)), False),
    "blur": (
        lambda images, rng: filters.gaussian_blur(
            images, filters.blur_sigmas(rng, (0.1, 2.0), 0.5), 7
        ),
        False,
    ),
    "solarization": (lambda images, rng: filters.solarize(images, rng.chance(0.5)), False),
    "views": (SimCLRViews(24, solarize=0.3), False),
}
every_transform = pytest.mark.parametrize(
    ("transform", "keeps"), RANDOM.values(), ids=RANDOM.keys()
)


@every_transform
def test_the_same_draw_gives_the_same_and_leaves_what_it_is_given(
    transform: Transform, keeps: bool
) -> None:
    images, ids = noise(12), torch.arange(12) + 50
    for given in (images, images / 255):
        before = given.clone()
        first = transform(given, PerImageRng(1, ids))
        assert torch.equal(transform(given, PerImageRng(1, ids)), first)
        assert torch.equal(given, before)
        assert first.dtype == (given.dtype if keeps else torch.float32)
    if transform is not RANDOM["lab and back"][0]:
        assert not torch.equal(
            transform(images, PerImageRng(2, ids)), transform(images, PerImageRng(1, ids))
        )


@every_transform
def test_bytes_and_shares_give_the_same(transform: Transform, keeps: bool) -> None:
    images = noise(12)
    of_bytes = transform(images, PerImageRng(1, torch.arange(12)))
    of_shares = transform(to_float(images), PerImageRng(1, torch.arange(12)))
    assert torch.equal(to_float(of_bytes), of_shares)


@every_transform
def test_no_image_has_an_effect_on_another(transform: Transform, keeps: bool) -> None:
    images, ids = noise(12), torch.arange(12) + 50
    whole = transform(images, PerImageRng(1, ids))
    changed = images.clone()
    changed[3] = 255 - changed[3] // 2
    again = transform(changed, PerImageRng(1, ids))
    others = torch.arange(12) != 3
    assert torch.equal(again[others], whole[others])
    assert not torch.equal(again[3], whole[3])
    # Only the order of sums in a product of matrices may differ.
    alone = torch.cat(
        [transform(images[n : n + 1], PerImageRng(1, ids[n : n + 1])) for n in range(12)]
    )
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = transform(images[order], PerImageRng(1, ids[order]))
    if keeps:
        assert torch.equal(alone, whole)
        assert torch.equal(shuffled, whole[order])
    assert (alone - to_float(whole) if not keeps else torch.zeros(1)).abs().max() < 2e-6
    assert (shuffled - whole[order] if not keeps else torch.zeros(1)).abs().max() < 2e-6


@every_transform
def test_mixed_precision_changes_nothing(transform: Transform, keeps: bool) -> None:
    images = noise(12)
    plain = transform(images, PerImageRng(1, torch.arange(12)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transform(images, PerImageRng(1, torch.arange(12))), plain)


@every_transform
def test_no_images_give_no_images(transform: Transform, keeps: bool) -> None:
    whole = transform(noise(1), PerImageRng(1, torch.arange(1)))
    none = transform(noise(1)[:0], PerImageRng(1, torch.arange(0)))
    assert none.shape == (0, *whole.shape[1:])
    assert none.dtype == whole.dtype


@every_transform
def test_images_in_channels_last_give_the_same(transform: Transform, keeps: bool) -> None:
    images, ids = noise(12), torch.arange(12)
    turned = images.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(
        to_float(transform(turned, PerImageRng(1, ids))),
        to_float(transform(images, PerImageRng(1, ids))),
        atol=2e-6,
    )


# Numbers and their normalization


def test_bytes_become_shares_and_are_left_alone_themselves() -> None:
    images = noise()
    before = images.clone()
    assert torch.allclose(to_float(images), images.double().div(255).float(), atol=1e-7)
    assert torch.equal(images, before)
    shares = torch.rand(2, 3, 4, 4)
    assert to_float(shares) is shares


def test_per_channel_is_torchvisions_normalize() -> None:
    how = Normalization()
    expected = tv.normalize(noise() / 255, list(how.mean), list(how.std))
    assert torch.allclose(normalize(noise(), how), expected, atol=1e-5)
    assert torch.allclose(normalize(noise() / 255, how), expected, atol=1e-5)


def test_per_image_gives_zero_mean_and_unit_deviation() -> None:
    images = noise(6) // torch.tensor([1, 2, 4, 8, 16, 32], dtype=torch.uint8)[:, None, None, None]
    flat = normalize(images, Normalization(per_image=True)).flatten(1)
    assert flat.mean(1).abs().max() < 1e-5
    assert (
        flat.std(1, correction=0) - 1
    ).abs().max() < 2e-3  # the epsilon of the deviation has an effect in dark images


def test_constant_images_give_next_to_nothing() -> None:
    images = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(256, 3, 12, 12)
    # The mean has a rounding error in its last bit, which is divided by 1e-5.
    assert normalize(images, Normalization(per_image=True)).abs().max() < 0.03


@pytest.mark.parametrize("per_image", [True, False])
def test_normalizing_treats_each_image_alone_and_leaves_its_input(per_image: bool) -> None:
    images, how = torch.rand(4, 3, 8, 8), Normalization(per_image=per_image)
    before = images.clone()
    whole = normalize(images, how)
    assert torch.equal(images, before)
    assert all(
        torch.allclose(normalize(images[n : n + 1], how)[0], whole[n], atol=1e-6) for n in range(4)
    )
