"""Batches of images arranged in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import F

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

SIDE = 160  # px of an image in a montage
MARGIN = 10
CAPTION = 18


def montage(columns: dict[str, Tensor]) -> Image.Image:
    """Draw columns of images under their captions.

    `columns` maps a caption to a batch (B, 3, h, w) of any range; each image is stretched from its
    own range to 0..255.
    """
    from PIL import Image, ImageDraw

    count = len(next(iter(columns.values())))
    step = SIDE + MARGIN
    width, height = len(columns) * step + MARGIN, CAPTION + count * step + MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for x, (caption, batch) in enumerate(columns.items()):
        pen.text((MARGIN + x * step, 3), caption, fill="black")
        for y, picture in enumerate(F.interpolate(batch.float(), size=SIDE, mode="nearest")):
            low, high = picture.min(), picture.max()
            gray_levels = (picture - low) / (high - low).clamp(min=1e-6) * 255
            pixels = gray_levels.byte().permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(pixels), (MARGIN + x * step, CAPTION + y * step))
    return sheet


def mosaic(tiles: Tensor, gap: int = 2) -> Tensor:
    """Arrange nine tiles in a 3 x 3 grid: (B, 9, 3, t, t) to (B, 3, S, S), S = 3 (t + 2 gap).

    Each tile is stretched from its own range to 0..1, and framed by `gap` white px.
    """
    flat = tiles.flatten(2)
    low, high = flat.amin(2)[..., None, None, None], flat.amax(2)[..., None, None, None]
    framed = F.pad((tiles - low) / (high - low).clamp(min=1e-6), (gap, gap, gap, gap), value=1.0)
    batch, _, channels, side, _ = framed.shape
    grid = framed.view(batch, 3, 3, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(batch, channels, 3 * side, 3 * side)
