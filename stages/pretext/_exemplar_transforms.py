"""The transformations of exemplar networks (Dosovitskiy et al., NeurIPS 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.transforms.color import adjust_hue, mix_colors, to_float
from transfer.transforms.geometry import affine_map, compose, rotation_map, sample
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng


def move(images: Tensor, rng: PerImageRng) -> Tensor:
    """Scale, rotate and translate images; float, of the same size.

    Scale: 0.7 to 1.4; rotation: up to 20 degrees; translation: up to a fifth of the side.
    """
    scale, angle, across, down = rng.uniform(4).unbind(1)
    extent = 1 / (0.7 * 2**scale)  # of the side that is seen: uniform in the logarithm
    zero = torch.zeros_like(scale)
    window = affine_map(extent, zero, 0.8 * across - 0.4, zero, extent, 0.8 * down - 0.4)
    rotated = compose(window, rotation_map(40 * angle - 20))
    return sample(images, rotated, images.shape[-1], padding="reflection")


def recolor(images: Tensor, rng: PerImageRng, mean: Tensor, axes: Tensor) -> Tensor:
    """Apply the paper's three color changes, the same for all pixels of an image; float in [0, 1].

    The colors along each principal direction are scaled by 0.5 to 2. Saturation and value are
    raised to the power of 0.25 to 4, scaled by 0.7 to 1.4 and shifted by -0.1 to 0.1. The hue is
    shifted by -0.1 to 0.1. Factors and powers are uniform in their logarithms.

    Args:
        images: (B, 3, H, W) uint8 or float.
        rng: random numbers for each image.
        mean: (3,), the mean color.
        axes: (3, 3), the principal directions of the colors as columns.
    """
    stretch = 4 ** rng.uniform(1, 3) / 2
    # Sums instead of a matrix product, which mixed precision would round.
    matrix = (axes[:, None] * axes[None] * stretch[:, None]).sum(-1)
    offset = mean - (matrix * mean).sum(-1)
    matrices = torch.cat((matrix, offset[:, :, None]), dim=2)
    images = mix_colors(to_float(images), matrices).clamp(0, 1)
    images = adjust_hue(images, 0.2 * rng.uniform() - 0.1)
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    # 0 for a pixel's strongest channel, 1 for its weakest. The clamp keeps rounding errors of a
    # gray pixel from becoming a color.
    distance = (value - images) / chroma.clamp(min=1 / 255)
    saturation = chroma / value.clamp(min=1e-6)
    power, factor, shift = rng.uniform(3, 2, 1, 1, 1).unbind(1)
    both = torch.stack((saturation, value), dim=1) ** (16**power / 4)
    saturation, value = (both * (0.7 * 2**factor) + (0.2 * shift - 0.1)).clamp(0, 1).unbind(1)
    return value * (1 - saturation * distance)


def color_directions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean color (3,) and the principal directions of all pixels as columns (3, 3).

    `images` are uint8 (B, 3, H, W).
    """
    pixels = to_float(images).transpose(0, 1).flatten(1).double().cpu()
    mean = pixels.mean(1)
    covariance = (pixels - mean[:, None]) @ (pixels - mean[:, None]).T / pixels.shape[1]
    axes = torch.linalg.eigh(covariance)[1]
    return mean.float().to(images.device), axes.float().to(images.device)
