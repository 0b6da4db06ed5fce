"""Sheets of small images and of filters, encoded into the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.artifacts import Images
from transfer.errors import CorruptArtifact
from transfer.utils.lazy_imports import F, np, torch

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image
    from torch import Tensor

Color = tuple[int, int, int]

QUALITY = 78  # of JPEG
GAP, FRAME = 2, 2  # px between tiles, and of a frame
FILTER_GAP = 6  # px between filters
FILTER_SIDE = 24  # px: smaller filters are enlarged up to it
BACKGROUND: Color = (128, 128, 128)  # fits a light and a dark page
ODD: Color = (226, 100, 0)  # frames an image of another class
LIKE: Color = (0, 158, 115)  # frames an image of the same class; distinct for color-blind readers


@dataclass(frozen=True)
class EncodedImage:
    """An image of the page: a data URL, its size in px, and its alternative text."""

    data: str
    width: int
    height: int
    alt: str


def encode_image(image: Image, alt: str, lossless: bool = False) -> EncodedImage:
    """Encode an image for the page.

    Args:
        image: the image.
        alt: the text for readers who cannot see it.
        lossless: PNG, for drawings of single pixels, instead of JPEG.
    """
    file = io.BytesIO()
    if lossless:
        image.save(file, format="PNG", optimize=True)
    else:
        image = image.convert("RGB")
        image.save(file, format="JPEG", quality=QUALITY, optimize=True, progressive=True)
    kind = "png" if lossless else "jpeg"
    data = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return EncodedImage(data, *image.size, alt)


def tile(images: Images, row: int, side: int) -> numpy.ndarray:
    """Return (side, side, 3) uint8 of a packed image.

    Args:
        images: the packed images.
        row: of the image; CorruptArtifact where it cannot be decoded.
        side: in px.
    """
    from PIL import Image

    try:
        image = Image.fromarray(np.ascontiguousarray(images.picture(int(row))))
    except OSError as error:
        raise CorruptArtifact(
            images.folder, f"image {images.ids[row]} cannot be read ({error})"
        ) from error
    resampling = Image.Resampling.BILINEAR if side < image.width else Image.Resampling.NEAREST
    return np.asarray(image.resize((side, side), resampling))


def sheet(
    tiles: Sequence[numpy.ndarray],
    columns: int,
    frames: Sequence[Color | None] = (),
    gap: int = GAP,
    frame_width: int = FRAME,
) -> Image:
    """Arrange tiles in rows.

    Args:
        tiles: (h, w, 3) uint8, all of one size.
        columns: the tiles of a row.
        frames: the color of each tile's frame; None for no frame.
        gap: px between tiles.
        frame_width: px of a frame.
    """
    from PIL import Image

    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 4)
    canvas = np.zeros(shape, np.uint8)
    canvas[..., :3] = BACKGROUND  # for JPEG, which has no transparency
    for number, pixels in enumerate(tiles):
        y, x = (height + gap) * (number // columns), (width + gap) * (number % columns)
        cell = canvas[y : y + height, x : x + width]
        cell[..., :3], cell[..., 3] = pixels, 255
        color = frames[number] if number < len(frames) else None
        if color is not None:
            inside = np.s_[frame_width : height - frame_width, frame_width : width - frame_width]
            content = cell[inside].copy()
            cell[:] = (*color, 255)
            cell[inside] = content
    return Image.fromarray(canvas)


def stretched_tiles(batch: Tensor, side: int) -> list[numpy.ndarray]:
    """(B, 3, h, w) of any range to B tiles of `side` px, each stretched to its own range."""
    batch = batch.float()
    low, high = batch.amin((1, 2, 3), keepdim=True), batch.amax((1, 2, 3), keepdim=True)
    scaled = (batch - low) / (high - low).clamp(min=1e-6)
    mode = "area" if scaled.shape[-1] > side else "nearest"
    scaled = F.interpolate(scaled, size=side, mode=mode)
    return list((scaled * 255).round().byte().permute(0, 2, 3, 1).numpy())


def filter_sheet(weight: Tensor, columns: int = 8, limit: int = 64) -> Image:
    """The filters of a first convolution, each scaled to its own range; gray is zero.

    Args:
        weight: (N, 3 or 1, h, w).
        columns: the filters of a row.
        limit: the filters that are drawn, at most.
    """
    weight = weight[:limit].float()
    largest = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    pixels = ((weight / largest + 1) * 127.5).round().byte()
    pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels
    scale = max(1, FILTER_SIDE // max(pixels.shape[-2:]))
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return sheet(list(pixels.permute(0, 2, 3, 1).numpy()), columns, gap=FILTER_GAP)


def image_batch(tiles: Sequence[numpy.ndarray]) -> Tensor:
    """Images (h, w, 3) uint8 as a batch (B, 3, h, w)."""
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2)
