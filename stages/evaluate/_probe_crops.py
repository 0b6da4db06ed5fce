"""Crops of images for probes: random ones for training, fixed ones for scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from transfer.training.inference import resize_to
from transfer.transforms.color import to_float
from transfer.transforms.geometry import affine_map, crop_map, sample
from transfer.transforms.tiles import tiles
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng

# Positions of AlexNet's crops, across and down, as shares of the free space: center and corners.
POSITIONS = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))

# Krähenbühl et al. cut windows from scaled photographs of VOC, px.
SHORTER = 375  # the shorter side of most photographs, to which the scale refers
WINDOW = 227


def random_crop(
    images: Tensor, rng: PerImageRng, share: float | Literal["resized"], size: int
) -> Tensor:
    """Return (B, 3, size, size) float random crops, mirrored half of the time.

    Args:
        images: (B, 3, S, S) uint8.
        rng: draws for each image.
        share: side of the square crop as a share of the image's; `resized`: a random area
            (0.08 to 1) and shape.
        size: side of the result, px.
    """
    images = shrink(images, size if share == "resized" else round(size / share))
    if share == "resized":
        return sample(images, crop_map(rng, (0.08, 1.0)), size)
    left, top, mirror = rng.uniform(3).unbind(1)
    if images.shape[-1] == round(size / share):
        # As published: cut at whole pixels, and nothing is resampled.
        places = images.shape[-1] - size + 1
        corners = torch.stack(((top * places).long(), (left * places).long()), dim=1)[:, None]
        crops = to_float(tiles(images, 1, 1, size, corners)[:, 0])
        return torch.where((mirror < 0.5)[:, None, None, None], crops.flip(-1), crops)
    height = torch.full_like(left, share)
    width = torch.where(mirror < 0.5, -height, height)
    return sample(images, _square_map(width, height, left, top), size)


def resized_crop(images: Tensor, rng: PerImageRng, size: int) -> Tensor:
    """Return (B, 3, size, size) float crops of random area (0.08 to 1) and shape.

    Half of them are mirrored.

    Args:
        images: (B, 3, S, S) uint8.
        rng: draws for each image.
        size: side of the result, px.
    """
    return random_crop(images, rng, "resized", size)


def fixed_crops(images: Tensor, share: float, size: int, ten: bool) -> list[Tensor]:
    """Return crops of each image, each (B, 3, size, size) float.

    Args:
        images: (B, 3, S, S) uint8.
        share: side of a crop as a share of the image's.
        size: side of the result, px.
        ten: the center and the corners, each also mirrored; otherwise the center only.
    """
    images = shrink(images, round(size / share))
    if images.shape[-1] == round(size / share):
        return _whole_pixel_crops(to_float(images), size, ten)
    ones = torch.ones(len(images), device=images.device)
    crops = []
    for left, top in POSITIONS if ten else POSITIONS[:1]:
        for width in (share, -share) if ten else (share,):
            square = _square_map(width * ones, share * ones, left * ones, top * ones)
            crops.append(sample(images, square, size))
    return crops


def _whole_pixel_crops(images: Tensor, size: int, ten: bool) -> list[Tensor]:
    """Return crops that are cut at whole pixels, as torchvision's CenterCrop and TenCrop do."""
    free = images.shape[-1] - size
    center = round(free / 2)  # half to even: 14 for 227 of 256, as in Caffe too
    corners = [(center, center), (0, 0), (0, free), (free, 0), (free, free)]
    crops = []
    for top, left in corners if ten else corners[:1]:
        crop = images[..., top : top + size, left : left + size]
        crops += [crop, crop.flip(-1)] if ten else [crop]
    return crops


def window_maps(rng: PerImageRng, scale: Sequence[float]) -> Tensor:
    """Return (B, 2, 3) affine maps of random windows in a square, half of them mirrored.

    A window is the part of a scaled image that a crop shows, at most the whole square. `scale` is
    the [lowest, highest] scale of the image.
    """
    scales, left, top, mirror = rng.uniform(4).unbind(1)
    low, high = scale
    side = (WINDOW / SHORTER / (low + (high - low) * scales)).clamp(max=1)
    width = torch.where(mirror < 0.5, -side, side)
    return _square_map(width, side, left, top)


def shrink(images: Tensor, size: int) -> Tensor:
    """Resize larger uint8 images to `size` px, antialiased, as float in [0, 1]; keep others."""
    return resize_to(images, min(size, images.shape[-1]))


def _square_map(width: Tensor, height: Tensor, left: Tensor, top: Tensor) -> Tensor:
    """Return the affine map of a part of the image; a negative width mirrors it.

    Args:
        width: (B,), as a share of the image.
        height: (B,), the same.
        left: (B,), position across as a share of the free space.
        top: (B,), position down as a share of the free space.
    """
    zero = torch.zeros_like(width)
    across = (1 - width.abs()) * (2 * left - 1)
    down = (1 - height) * (2 * top - 1)
    return affine_map(width, zero, across, zero, height, down)
