"""Blur and solarization of batched images, each image by its own draw. Images are (B, 3, H, W)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from transfer.transforms.color import to_float
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng


def gaussian_blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Each image blurred by a Gaussian of its own `sigma` (B,) in px; float. What has sigma 0 is left alone.

    The Gaussian is cut off at `kernel` px across, an odd number below twice the side; the image is mirrored at its
    edge. ValueError for another `kernel`.
    """
    return blur_(images.clone() if images.is_floating_point() else to_float(images), sigma, kernel)


def blur_(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """`gaussian_blur` of float images, which are overwritten."""
    height, width = images.shape[-2:]
    if kernel % 2 == 0 or not 0 < kernel < 2 * min(height, width):
        raise ValueError(
            f"a blur of {kernel} px across: it must be odd, and below {2 * min(height, width)} px for images of "
            f"{width} x {height} px"
        )
    chosen = (sigma > 0).nonzero()[:, 0]
    distance = torch.arange(kernel // 2 + 1, device=images.device)
    weights = torch.exp(-0.5 * (distance / sigma[chosen, None]) ** 2)
    weights *= weights > 1e-9  # the least floats of all are multiplied many times more slowly
    weights /= 2 * weights.sum(1, keepdim=True) - weights[:, :1]
    with torch.autocast(images.device.type, enabled=False):  # products would be rounded to bfloat16
        across, down = (
            (weights @ _spread(side, kernel // 2, images.device)).unflatten(1, (side, side))
            for side in (width, height)
        )
        blurred = images[chosen]
        blurred = torch.bmm(blurred.flatten(1, 2), across.mT).view_as(blurred)
        return images.index_copy_(0, chosen, torch.matmul(down[:, None], blurred))


@lru_cache(maxsize=8)
def _spread(side: int, reach: int, device: torch.device) -> Tensor:
    """(reach + 1, side * side): what makes of weights by distance the matrix that blurs a line of `side` pixels.

    As a product of matrices, a blur is two to three times as fast as a convolution with a kernel for each image.
    """
    with torch.inference_mode(False):  # what is kept must serve for gradients too
        spread = torch.zeros(reach + 1, side, side, device=device)
        pixel = torch.arange(side, device=device)
        for step in range(-reach, reach + 1):
            source = side - 1 - (side - 1 - (pixel + step).abs()).abs()  # mirrored at both edges
            spread[abs(step), pixel, source] += 1
        return spread.flatten(1)


def blur_sigmas(rng: PerImageRng, sigma: tuple[float, float], p: float) -> Tensor:
    """(B,): uniform within `sigma` with probability p, else 0."""
    share, chosen = rng.uniform(2).unbind(1)
    return torch.where(chosen < p, sigma[0] + (sigma[1] - sigma[0]) * share, 0.0)


def blur_kernel(side: int) -> int:
    """The odd number of pixels near a tenth of the side, 3 at least: how far SimCLR's blur reaches."""
    return max(1, min(2 * max(1, side // 20) + 1, 2 * side - 1))


def random_blur(
    images: Tensor,
    rng: PerImageRng,
    sigma: tuple[float, float] = (0.1, 2.0),
    p: float = 0.5,
    kernel: int | None = None,
) -> Tensor:
    """Images chosen with probability p blurred, with sigma uniform over its two ends; float. Kernel: `blur_kernel`."""
    return gaussian_blur(
        images, blur_sigmas(rng, sigma, p), kernel or blur_kernel(min(images.shape[-2:]))
    )


def solarize(images: Tensor, chosen: Tensor, threshold: float = 0.5) -> Tensor:
    """Values of at least `threshold` inverted in the images that are `chosen` (B,) bool; float."""
    images = to_float(images)
    rows = chosen.nonzero()[:, 0]
    part = images[rows]
    return images.index_copy(0, rows, torch.where(part >= threshold, 1 - part, part))


def random_solarize(images: Tensor, rng: PerImageRng, p: float, threshold: float = 0.5) -> Tensor:
    return solarize(images, rng.chance(p), threshold)
