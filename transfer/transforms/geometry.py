"""Crops, rotations and flips of batched images, each with random numbers of its own.

Images are (B, 3, H, W). A map (B, 2, 3) is affine and takes a place in the output to the place in
the input, both in -1..1 over the image. Maps compose into one, so that a chain samples once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transfer.transforms.color import to_float
from transfer.utils.lazy_imports import F, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng


def affine_map(xx: Tensor, xy: Tensor, x: Tensor, yx: Tensor, yy: Tensor, y: Tensor) -> Tensor:
    """Return maps (B, 2, 3) with the given coefficients, (B,) each.

    A map takes the place (u', v') in the output, across and down, to the place in the input
    u = xx u' + xy v' + x, v = yx u' + yy v' + y.
    """
    return torch.stack((xx, xy, x, yx, yy, y), dim=-1).unflatten(-1, (2, 3))


def crop_map(
    rng: PerImageRng,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """Draw maps (B, 2, 3) that crop a random part of each image.

    Args:
        rng: draws of the images.
        scale: range of the area, a share of the image's; uniform.
        ratio: range of the width to the height, of a square image. Its logarithm is uniform over
            the part of the range in which such an area fits into the image, or is the nearest
            that fits.
        flip: probability to mirror left to right.
    """
    area, shape, left, top, mirror = rng.uniform(5).unbind(1)
    area = scale[0] + (scale[1] - scale[0]) * area
    room = -area.log()
    low, high = (
        torch.minimum(torch.maximum(room.new_tensor(math.log(end)), -room), room) for end in ratio
    )
    shape = torch.exp(low + (high - low) * shape)
    wide, tall = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
    zero = torch.zeros_like(wide)
    return affine_map(
        torch.where(mirror < flip, -wide, wide),
        zero,
        (1 - wide) * (2 * left - 1),
        zero,
        tall,
        (1 - tall) * (2 * top - 1),
    )


def rotation_map(angles: Tensor, aspect: float = 1.0) -> Tensor:
    """Return maps (B, 2, 3) that rotate by `angles` (B,) in degrees, counterclockwise.

    `aspect` is the width of the image divided by its height.
    """
    cos, sin = torch.cos(angles * (math.pi / 180)), torch.sin(angles * (math.pi / 180))
    zero = torch.zeros_like(cos)
    return affine_map(cos, -sin / aspect, zero, sin * aspect, cos, zero)


def compose(*maps: Tensor) -> Tensor:
    """Compose maps, (B, 2, 3) each, into one that applies the first map to the image first."""
    composed, *others = maps
    for inner in others:
        # Sums instead of a product of matrices, which mixed precision would round.
        product = (composed[:, :, :2, None] * inner[:, None]).sum(2)
        product[:, :, 2] += composed[:, :, 2]
        composed = product
    return composed


def sample(
    images: Tensor,
    maps: Tensor,
    size: int | tuple[int, int],
    mode: str = "bilinear",
    padding: str = "border",
) -> Tensor:
    """Sample each image at the places of its map.

    Column j of n and row i of m in the output have the centers u' = (2 j + 1) / n - 1 and
    v' = (2 i + 1) / m - 1. With a map [[xx, xy, x], [yx, yy, y]], pixel (i, j) is the image at

        u = xx u' + xy v' + x,   v = yx u' + yy v' + y.

    Args:
        images: (B, 3, H, W) uint8 or float.
        maps: (B, 2, 3).
        size: side of the output in px, or its height and width.
        mode: interpolation, as in `F.grid_sample`.
        padding: values outside of the image, as in `F.grid_sample`.

    Returns:
        (B, 3, height, width) float.
    """
    height, width = (size, size) if isinstance(size, int) else size
    # `F.affine_grid` is a product of matrices, which mixed precision would round to half a pixel.
    across, down = (
        (2 * torch.arange(n, device=images.device) + 1) / n - 1 for n in (width, height)
    )
    maps = maps[:, :, None, None, :]
    grid = (maps[..., 2] + maps[..., 0] * across) + maps[..., 1] * down[:, None]
    grid = grid.permute(0, 2, 3, 1)
    return F.grid_sample(
        to_float(images), grid, mode=mode, padding_mode=padding, align_corners=False
    )


def random_resized_crop(
    images: Tensor,
    rng: PerImageRng,
    size: int,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """Crop a random part of each image and resize it bilinearly to (B, 3, size, size); float.

    Args:
        images: (B, 3, H, W) uint8 or float.
        rng: draws of the images.
        size: side of the output in px.
        scale: range of the area; see `crop_map`.
        ratio: range of the width to the height.
        flip: probability to mirror left to right.
    """
    return sample(images, crop_map(rng, scale, ratio, flip), size)


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate counterclockwise by `turns` (B,) int64 quarter turns, without resampling.

    The type of the images is kept. ValueError for images that are not square.
    """
    height, width = images.shape[-2:]
    if height != width:
        raise ValueError(
            f"images of {width} x {height} px cannot be rotated by quarter turns: "
            "they are not square"
        )
    turned = images.clone()
    for turn in (1, 2, 3):
        chosen = (turns % 4 == turn).nonzero()[:, 0]
        turned[chosen] = torch.rot90(images[chosen], turn, (-2, -1))
    return turned


def random_flip(images: Tensor, rng: PerImageRng, probability: float = 0.5) -> Tensor:
    """Mirror each image left to right with a probability; the type is kept."""
    chosen = rng.chance(probability).nonzero()[:, 0]
    return images.index_copy(0, chosen, images[chosen].flip(-1))
