"""Random changes of brightness, contrast, saturation and hue, each image by its own draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.transforms.color import (
    adjust_hue,
    brightness_matrix,
    compose_colors,
    contrast_matrix,
    mean_gray,
    mix_colors,
    saturation_matrix,
    to_float,
)
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng


def jitter_factors(
    rng: PerImageRng,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    p: float = 1.0,
) -> Tensor:
    """Draw (B, 4): factors of brightness, contrast and saturation, and a rotation of the hue.

    Factors are uniform over 1 - x .. 1 + x, and not below 0. Images that are not chosen get
    1, 1, 1 and 0, which change nothing.

    Args:
        rng: draws of the images.
        brightness: x of the first factor.
        contrast: x of the second factor.
        saturation: x of the third factor.
        hue: the rotation is uniform over -hue .. hue, in full turns.
        p: probability that an image is changed.
    """
    high = torch.tensor([1 + brightness, 1 + contrast, 1 + saturation, hue], device=rng.device)
    low = torch.tensor(
        [max(0.0, 1 - brightness), max(0.0, 1 - contrast), max(0.0, 1 - saturation), -hue],
        device=rng.device,
    )
    share, chosen = rng.uniform(5).split([4, 1], dim=1)
    unchanged = torch.tensor([1.0, 1.0, 1.0, 0.0], device=rng.device)
    return torch.where(chosen < p, low + (high - low) * share, unchanged)


def jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Change colors by `factors` (B, 4) of `jitter_factors`; float in [0, 1].

    One map of colors is applied, then the hue is rotated, then values are clipped to [0, 1].
    Torchvision clips after each of the four changes, which it applies in random order: a value
    that one factor pushes out of range is lost there, and here a later factor may restore it.
    Without clipping, the order of the first three changes has no effect, and that of the hue
    changes only the gray toward which saturation and contrast pull a pixel.
    """
    return unclamped_jitter(to_float(images), jitter_maps(factors), factors[:, 3]).clamp_(0, 1)


def jitter_maps(factors: Tensor) -> Tensor:
    """Return maps (B, 3, 4) of brightness, contrast and saturation, from `factors` (B, 4).

    Their offset, which is that of contrast, is for images with a mean gray of 1; it is
    proportional to the mean gray.
    """
    brightness, contrast, saturation, _ = factors.unbind(1)
    return compose_colors(
        brightness_matrix(brightness),
        contrast_matrix(contrast, brightness),
        saturation_matrix(saturation),
    )


def unclamped_jitter(images: Tensor, maps: Tensor, turn: Tensor) -> Tensor:
    """Change colors as `jitter` does, without clipping.

    Args:
        images: (B, 3, H, W) float.
        maps: (B, 3, 4) of `jitter_maps`.
        turn: (B,) rotation of the hue, in full turns.
    """
    offset = maps[:, :, 3:] * mean_gray(images)[:, None, None]
    return adjust_hue(mix_colors(images, torch.cat((maps[:, :, :3], offset), dim=2)), turn)


def color_jitter(
    images: Tensor,
    rng: PerImageRng,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    p: float = 1.0,
) -> Tensor:
    """Change the colors of each image at random, for the views of a plug-in's stage.

    Args:
        images: (B, 3, H, W) uint8 or float in [0, 1].
        rng: draws of the images.
        brightness: factors are in 1 - brightness .. 1 + brightness, as for the next two.
        contrast: range of the factors.
        saturation: range of the factors.
        hue: rotations are in -hue .. hue, in full turns.
        p: probability that an image is changed.

    Returns:
        (B, 3, H, W) float in [0, 1]; see `jitter`.
    """
    return jitter(images, jitter_factors(rng, brightness, contrast, saturation, hue, p))
