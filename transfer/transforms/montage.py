"""Batches of images laid out as one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import F

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 160  # px of an image in a montage
MARGIN = 10
CAPTION = 18


def montage(columns: dict[str, Tensor]) -> object:
    """Captioned columns of (B, 3, h, w) tensors, of any range, as one image of the imaging library."""
    from PIL import Image, ImageDraw

    count = len(next(iter(columns.values())))
    step = SIDE + MARGIN
    sheet = Image.new(
        "RGB", (len(columns) * step + MARGIN, CAPTION + count * step + MARGIN), "white"
    )
    pen = ImageDraw.Draw(sheet)
    for x, (caption, batch) in enumerate(columns.items()):
        pen.text((MARGIN + x * step, 3), caption, fill="black")
        for y, picture in enumerate(F.interpolate(batch.float(), size=SIDE, mode="nearest")):
            low, high = picture.min(), picture.max()
            shown = (
                ((picture - low) / (high - low).clamp(min=1e-6) * 255)
                .byte()
                .permute(1, 2, 0)
                .numpy()
            )
            sheet.paste(Image.fromarray(shown), (MARGIN + x * step, CAPTION + y * step))
    return sheet


def mosaic(tiles: Tensor, gap: int = 2) -> Tensor:
    """(B, 9, 3, t, t) to (B, 3, S, S): nine in a 3 x 3 grid with a gap, each stretched to its own range."""
    flat = tiles.flatten(2)
    low, high = flat.amin(2)[..., None, None, None], flat.amax(2)[..., None, None, None]
    framed = F.pad((tiles - low) / (high - low).clamp(min=1e-6), (gap, gap, gap, gap), value=1.0)
    batch, _, channels, side, _ = framed.shape
    return (
        framed.view(batch, 3, 3, channels, side, side)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(batch, channels, 3 * side, 3 * side)
    )
