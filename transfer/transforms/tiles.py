"""Tiles cut out of batches of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor


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
