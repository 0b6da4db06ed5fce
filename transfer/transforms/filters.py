"""Blur and solarization of batched images, each image by its own draw; images are (B, 3, H, W)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from transfer.transforms.color import to_float
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng


def gaussian_blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur each image by a Gaussian; float. Images are mirrored at their edges.

    Args:
        images: (B, 3, H, W) uint8 or float.
        sigma: (B,) standard deviation of each image's Gaussian in px; 0 leaves it unchanged.
        kernel: width of the truncated Gaussian in px, an odd number below twice the shorter side;
            ValueError for another.
    """
    return blur_(images.clone() if images.is_floating_point() else to_float(images), sigma, kernel)


def blur_(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur float images in place; see `gaussian_blur`."""
    height, width = images.shape[-2:]
    if kernel % 2 == 0 or not 0 < kernel < 2 * min(height, width):
        raise ValueError(
            f"a blur of {kernel} px: the width must be odd and below {2 * min(height, width)} px "
            f"for images of {width} x {height} px"
        )
    chosen = (sigma > 0).nonzero()[:, 0]
    distance = torch.arange(kernel // 2 + 1, device=images.device)
    weights = torch.exp(-0.5 * (distance / sigma[chosen, None]) ** 2)
    weights *= weights > 1e-9  # products of subnormal numbers are many times slower
    weights /= 2 * weights.sum(1, keepdim=True) - weights[:, :1]
    # Mixed precision would round the products to bfloat16.
    with torch.autocast(images.device.type, enabled=False):
        across, down = (
            (weights @ _weight_positions(side, kernel // 2, images.device)).unflatten(
                1, (side, side)
            )
            for side in (width, height)
        )
        blurred = images[chosen]
        blurred = torch.bmm(blurred.flatten(1, 2), across.mT).view_as(blurred)
        return images.index_copy_(0, chosen, torch.matmul(down[:, None], blurred))


@lru_cache(maxsize=8)
def _weight_positions(side: int, reach: int, device: torch.device) -> Tensor:
    """Return (reach + 1, side * side), which maps weights by distance to the matrix of a blur.

    The matrix blurs a line of `side` pixels. As a product of matrices, a blur is two to three
    times as fast as a convolution with a kernel for each image.
    """
    with torch.inference_mode(False):  # the cached tensor must work with gradients too
        positions = torch.zeros(reach + 1, side, side, device=device)
        pixel = torch.arange(side, device=device)
        for step in range(-reach, reach + 1):
            source = side - 1 - (side - 1 - (pixel + step).abs()).abs()  # mirrored at both edges
            positions[abs(step), pixel, source] += 1
        return positions.flatten(1)


def blur_sigmas(rng: PerImageRng, sigma: tuple[float, float], p: float) -> Tensor:
    """Draw (B,): uniform within `sigma` with probability `p`, else 0."""
    share, chosen = rng.uniform(2).unbind(1)
    return torch.where(chosen < p, sigma[0] + (sigma[1] - sigma[0]) * share, 0.0)


def blur_kernel(side: int) -> int:
    """Return the width of SimCLR's blur: the odd number near a tenth of the side, at least 3."""
    return max(1, min(2 * max(1, side // 20) + 1, 2 * side - 1))


def solarize(images: Tensor, chosen: Tensor, threshold: float = 0.5) -> Tensor:
    """Invert values of at least `threshold` in the images that are `chosen`, (B,) bool; float."""
    images = to_float(images)
    rows = chosen.nonzero()[:, 0]
    part = images[rows]
    return images.index_copy(0, rows, torch.where(part >= threshold, 1 - part, part))
