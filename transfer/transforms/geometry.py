"""Crops, rotations, flips, tiles and erased boxes of batched images, each by its own draw.

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


def tiles(images: Tensor, rows: int, cols: int, tile: int, corners: Tensor | None = None) -> Tensor:
    """Cut tiles out of each image: (B, C, H, W) to (B, rows * cols, C, tile, tile), row by row.

    The type is kept. ValueError for tiles that do not fit.

    Args:
        images: (B, C, H, W) of any type.
        rows: number of rows of the grid.
        cols: number of its columns.
        tile: side of a tile in px.
        corners: int64 rows and columns of the upper left pixels, (B, rows * cols, 2), or
            (B, rows * cols, C, 2) with different ones for each channel. None centers each tile in
            its cell.
    """
    if corners is None:
        return _centered_tiles(images, rows, cols, tile)
    height, width = images.shape[-2:]
    # Not checked on an accelerator, because reading the corners would wait for it.
    if corners.device.type == "cpu" and corners.numel():
        low, (bottom, right) = corners.amin(), corners.flatten(0, -2).amax(0).tolist()
        if low < 0 or bottom + tile > height or right + tile > width:
            raise ValueError(f"tiles of {tile} px exceed images of {width} x {height} px")
    if corners.ndim == 3:
        corners = corners[:, :, None].expand(-1, -1, images.shape[1], -1)
    inside = torch.arange(tile, device=images.device)
    down, across = corners[..., 0, None] + inside, corners[..., 1, None] + inside  # (B, T, C, tile)
    index = (down[..., :, None] * width + across[..., None, :]).transpose(1, 2)
    pixels = images.flatten(2).gather(2, index.flatten(2))
    return pixels.unflatten(2, index.shape[2:]).transpose(1, 2)


def _centered_tiles(images: Tensor, rows: int, cols: int, tile: int) -> Tensor:
    """Return the tiles at the centers of the cells of a grid; see `tiles`."""
    tall, wide = images.shape[-2] // rows, images.shape[-1] // cols
    if tile > min(tall, wide):
        raise ValueError(f"cells of {wide} x {tall} px are too small for tiles of {tile} px")
    top, left = (tall - tile) // 2, (wide - tile) // 2
    grid = images[..., : rows * tall, : cols * wide]
    cells = grid.unflatten(-1, (cols, wide)).unflatten(-3, (rows, tall))
    inner = cells[..., top : top + tile, :, left : left + tile]
    return inner.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def erased_boxes(
    rng: PerImageRng,
    size: tuple[int, int],
    p: float,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """Draw boxes to erase, (B, 4) int64: top, left, height and width in px.

    Args:
        rng: draws of the images.
        size: height and width of the images in px.
        p: probability of a box; others are empty.
        scale: range of the area before rounding, a share of the image's; uniform.
        ratio: range of the height to the width; its logarithm is uniform over the part that fits.
    """
    height, width = size
    area, shape, top, left, chosen = rng.uniform(5).unbind(1)
    area = (scale[0] + (scale[1] - scale[0]) * area) * (height * width)
    least, most = (area / width**2).log(), (height**2 / area).log()
    low, high = (
        torch.minimum(torch.maximum(area.new_tensor(math.log(end)), least), most) for end in ratio
    )
    shape = torch.exp(low + (high - low) * shape)
    tall = (area * shape).sqrt().round().clamp(max=height)
    wide = (area / shape).sqrt().round().clamp(max=width)
    tall = torch.where(chosen < p, tall, 0.0)
    top, left = (top * (height - tall + 1)).floor(), (left * (width - wide + 1)).floor()
    return torch.stack((top, left, tall, wide), dim=1).to(torch.int64)


def erase(images: Tensor, boxes: Tensor, value: float = 0.0) -> Tensor:
    """Set the box of each image to `value`; `boxes` (B, 4) are those of `erased_boxes`.

    The type of the images is kept.
    """
    top, left, tall, wide = boxes[:, :, None].unbind(1)
    y, x = (torch.arange(side, device=images.device) for side in images.shape[-2:])
    rows, columns = (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], value)


def random_erase(
    images: Tensor,
    rng: PerImageRng,
    p: float = 0.5,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    value: float = 0.0,
) -> Tensor:
    """Erase a random box of each image (Zhong et al., AAAI 2020); the type is kept.

    Args:
        images: (B, 3, H, W).
        rng: draws of the images.
        p: probability of a box.
        scale: range of its area; see `erased_boxes`.
        ratio: range of its height to its width.
        value: what the box is filled with.
    """
    height, width = images.shape[-2:]
    return erase(images, erased_boxes(rng, (height, width), p, scale, ratio), value)
