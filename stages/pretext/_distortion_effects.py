"""The resampling and the effects behind the classes of `pretext/distortion`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from transfer.transforms.color import adjust_hue
from transfer.transforms.erasing import random_erase
from transfer.transforms.filters import gaussian_blur, solarize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import F, torch

if TYPE_CHECKING:
    from torch import Tensor

ANGLE = 0.07 * math.pi  # largest small rotation of half of the images, in radians
WARP = 1 / 16  # largest shift of a point in a warp, as a share of the crop's side


def crop_and_warp(
    images: Tensor, warped: Tensor, rng: PerImageRng, side: int, flip: float
) -> Tensor:
    """Return a random crop of each image by one resampling.

    A crop may be rotated by a small angle, mirrored and warped.

    Args:
        images: (N, 3, S, S) float.
        warped: (N,) bool, the images to warp.
        rng: random numbers for each image.
        side: side of the crops in px.
        flip: share of images that are mirrored.
    """
    size = images.shape[-1]
    # Coordinates go from -1 to 1, so a length is twice its share of the image's side.
    share, warp = side / size, 2 * WARP * side / size
    angle = torch.where(rng.chance(0.5), ANGLE * (2 * rng.uniform() - 1), 0.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    # The crop is small enough that a warped corner of a rotated crop still lies in the image.
    reach = share * (cos + sin.abs())
    zoom = ((1 - warp) / reach).clamp(max=1.0)
    room = 1 - warp - zoom * reach
    center = (2 * rng.uniform(2) - 1) * room[:, None]
    line = ((2 * torch.arange(side, device=images.device) + 1) / side - 1) * share
    mirror = torch.where(rng.chance(flip), -zoom, zoom)[:, None, None]
    across, down = mirror * line, zoom[:, None, None] * line[:, None]
    cos, sin = cos[:, None, None], sin[:, None, None]
    rotated = torch.stack((cos * across - sin * down, sin * across + cos * down), dim=-1)
    places = rotated + center[:, None, None]
    shifts, rows = 2 * rng.uniform(2, 4, 4) - 1, warped.nonzero()[:, 0]
    if len(rows):
        field = F.interpolate(shifts[rows], size=side, mode="bicubic", align_corners=True)
        places.index_add_(0, rows, warp * field.clamp(-1, 1).permute(0, 2, 3, 1))
    return F.grid_sample(
        images, places, mode="bilinear", padding_mode="border", align_corners=False
    )


def blur(images: Tensor, rng: PerImageRng) -> Tensor:
    """Blur by a Gaussian of sigma 1 to 2 px."""
    return gaussian_blur(images, 1 + rng.uniform(), kernel=9)


def invert_bright(images: Tensor, rng: PerImageRng) -> Tensor:
    """Invert bright pixels (solarization)."""
    return solarize(images, torch.ones(len(images), dtype=torch.bool, device=images.device))


def add_noise(images: Tensor, rng: PerImageRng) -> Tensor:
    """Add Gaussian noise of standard deviation 0.1, by the Box-Muller transform."""
    length, angle = rng.uniform(2, *images.shape[1:]).unbind(1)
    noise = (-2 * (1 - length).log()).sqrt() * torch.cos(2 * math.pi * angle)
    return (images + 0.1 * noise).clamp(0, 1)


def erase_box(images: Tensor, rng: PerImageRng) -> Tensor:
    """Paint a gray box over 5 to 25 % of the area."""
    return random_erase(images, rng, p=1.0, scale=(0.05, 0.25), value=0.5)


def rotate_hues(images: Tensor, rng: PerImageRng) -> Tensor:
    """Rotate all hues by 1/4 to 3/4 of a turn."""
    return adjust_hue(images, 0.25 + 0.5 * rng.uniform())


# Class -> its effect on the crop; rotations and warps come before.
EFFECTS: dict[str, Callable[[Tensor, PerImageRng], Tensor]] = {
    "blurred": blur,
    "solarized": invert_bright,
    "noisy": add_noise,
    "erased": erase_box,
    "other hues": rotate_hues,
}
