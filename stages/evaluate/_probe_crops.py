"""Crops as probes take them: squares of a share of the side, at random places, in the middle, or the ten of AlexNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from transfer.training.inference import resize_to
from transfer.transforms.geometry import affine_map, crop_map, sample
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng

# Of the ten: where each lies of the room that there is, across and down.
PLACES = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))


def random_crop(
    images: Tensor, rng: PerImageRng, share: float | Literal["resized"], size: int
) -> Tensor:
    """(B, 3, size, size) float: a square of `share` of the side at a random place, or any area and shape; mirrored half
    of the time."""
    images = shrink(images, size if share == "resized" else round(size / share))
    if share == "resized":
        return sample(images, crop_map(rng, (0.08, 1.0)), size)
    left, top, mirror = rng.uniform(3).unbind(1)
    wide = torch.full_like(left, share)
    return sample(images, _square(torch.where(mirror < 0.5, -wide, wide), wide, left, top), size)


def resize(images: Tensor, rng: PerImageRng, size: int) -> Tensor:
    """(B, 3, size, size) float: a random area (0.08 to 1) and shape of each image, mirrored half of the time."""
    return random_crop(images, rng, "resized", size)


def fixed_crops(images: Tensor, share: float, size: int, ten: bool) -> list[Tensor]:
    """The middle one, (B, 3, size, size) float; or ten: middle and corners, each mirrored too."""
    images = shrink(images, round(size / share))
    one = torch.ones(len(images), device=images.device)
    found = []
    for left, top in PLACES if ten else PLACES[:1]:
        for side in (share, -share) if ten else (share,):
            found.append(
                sample(images, _square(side * one, share * one, left * one, top * one), size)
            )
    return found


def shrink(images: Tensor, size: int) -> Tensor:
    """uint8 images of more than `size` px brought down to it, antialiased, as float in [0, 1]; others as they are."""
    return resize_to(images, min(size, images.shape[-1]))


def _square(wide: Tensor, tall: Tensor, left: Tensor, top: Tensor) -> Tensor:
    """The map of a part of the image; a negative width mirrors it."""
    zero = torch.zeros_like(wide)
    return affine_map(
        wide, zero, (1 - wide.abs()) * (2 * left - 1), zero, tall, (1 - tall) * (2 * top - 1)
    )
