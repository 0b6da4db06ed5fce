from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torchvision.transforms import functional as tv

from tests.datasets.pictures import noise
from transfer.artifacts import Normalisation
from transfer.transforms import color, filters, geometry, normalize
from transfer.transforms.normalize import normalise, to_float
from transfer.transforms.per_image_rng import Draw
from transfer.transforms.simclr_views import Views

Transform = Callable[[torch.Tensor, Draw], torch.Tensor]

# Every transform with something random in it, and whether it keeps bytes as bytes.
RANDOM: dict[str, tuple[Transform, bool]] = {
    "crop": (lambda images, draw: normalize.random_resized_crop(images, draw, 24, (0.3, 1)), False),
    "rotation": (lambda images, draw: geometry.random_rotation(images, draw, 40), False),
    "turns": (lambda images, draw: geometry.quarter_turns(images, draw.integers(4)), True),
    "flip": (geometry.random_flip, True),
    "tiles": (lambda images, draw: geometry.tiles(images, 3, 3, 8, draw.integers(24, 9, 2)), True),
    "erasing": (geometry.random_erase, True),
    "jitter": (
        lambda images, draw: color.color_jitter(images, draw, 0.8, 0.8, 0.8, 0.2, 0.8),
        False,
    ),
    "grey": (lambda images, draw: color.random_grey(images, draw, 0.5), False),
    "projection": (lambda images, draw: color.project(images, draw, 0.5), False),
    "lab and back": (lambda images, _: color.lab_to_rgb(color.rgb_to_lab(images)), False),
    "blur": (lambda images, draw: filters.random_blur(images, draw, kernel=7), False),
    "solarisation": (lambda images, draw: filters.random_solarise(images, draw, 0.5), False),
    "views": (Views(24, solarise=0.3), False),
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
        first = transform(given, Draw(1, ids))
        assert torch.equal(transform(given, Draw(1, ids)), first)
        assert torch.equal(given, before)
        assert first.dtype == (given.dtype if keeps else torch.float32)
    if transform is not RANDOM["lab and back"][0]:
        assert not torch.equal(transform(images, Draw(2, ids)), transform(images, Draw(1, ids)))


@every_transform
def test_bytes_and_shares_give_the_same(transform: Transform, keeps: bool) -> None:
    images = noise(12)
    of_bytes = transform(images, Draw(1, torch.arange(12)))
    of_shares = transform(to_float(images), Draw(1, torch.arange(12)))
    assert torch.equal(to_float(of_bytes), of_shares)


@every_transform
def test_no_image_has_an_effect_on_another(transform: Transform, keeps: bool) -> None:
    images, ids = noise(12), torch.arange(12) + 50
    whole = transform(images, Draw(1, ids))
    changed = images.clone()
    changed[3] = 255 - changed[3] // 2
    again = transform(changed, Draw(1, ids))
    others = torch.arange(12) != 3
    assert torch.equal(again[others], whole[others])
    assert not torch.equal(again[3], whole[3])
    # Alone, a product of matrices may be added up in another order: that is all that may differ.
    alone = torch.cat([transform(images[n : n + 1], Draw(1, ids[n : n + 1])) for n in range(12)])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = transform(images[order], Draw(1, ids[order]))
    if keeps:
        assert torch.equal(alone, whole)
        assert torch.equal(shuffled, whole[order])
    assert (alone - to_float(whole) if not keeps else torch.zeros(1)).abs().max() < 2e-6
    assert (shuffled - whole[order] if not keeps else torch.zeros(1)).abs().max() < 2e-6


@every_transform
def test_mixed_precision_changes_nothing(transform: Transform, keeps: bool) -> None:
    images = noise(12)
    plain = transform(images, Draw(1, torch.arange(12)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transform(images, Draw(1, torch.arange(12))), plain)


@every_transform
def test_no_images_give_no_images(transform: Transform, keeps: bool) -> None:
    whole = transform(noise(1), Draw(1, torch.arange(1)))
    none = transform(noise(1)[:0], Draw(1, torch.arange(0)))
    assert none.shape == (0, *whole.shape[1:])
    assert none.dtype == whole.dtype


@every_transform
def test_images_in_channels_last_give_the_same(transform: Transform, keeps: bool) -> None:
    images, ids = noise(12), torch.arange(12)
    turned = images.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(
        to_float(transform(turned, Draw(1, ids))),
        to_float(transform(images, Draw(1, ids))),
        atol=2e-6,
    )


# Numbers and their normalisation


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
    assert (
        flat.std(1, correction=0) - 1
    ).abs().max() < 2e-3  # what is added to the deviation shows in dark images


def test_constant_images_give_next_to_nothing() -> None:
    images = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(256, 3, 12, 12)
    # The mean is rounded in its last bit, and that is divided by 1e-5.
    assert normalise(images, Normalisation(per_image=True)).abs().max() < 0.03


@pytest.mark.parametrize("per_image", [True, False])
def test_normalising_treats_each_image_alone_and_leaves_its_input(per_image: bool) -> None:
    images, how = torch.rand(4, 3, 8, 8), Normalisation(per_image=per_image)
    before = images.clone()
    whole = normalise(images, how)
    assert torch.equal(images, before)
    assert all(
        torch.allclose(normalise(images[n : n + 1], how)[0], whole[n], atol=1e-6) for n in range(4)
    )
