"""Pictures inside the page: sheets of small images and of filters, as data that the page itself carries."""

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

QUALITY = 78  # of JPEG
GAP, FRAME = 2, 2  # px between tiles, and of a frame
GROUND = (128, 128, 128)  # neither white nor black: the page may be either
ODD = (226, 100, 0)  # the frame of an image that is not what most beside it are
LIKE = (0, 158, 115)  # and of one that is; told apart by color-blind people too


@dataclass(frozen=True)
class EncodedImage:
    """An image of the page: its data, its size in px, and what it says to who cannot see it."""

    data: str
    width: int
    height: int
    alt: str


def picture(image: Image, alt: str, lossless: bool = False) -> EncodedImage:
    """Photographs as JPEG, drawings of single pixels as PNG."""
    file = io.BytesIO()
    if lossless:
        image.save(file, format="PNG", optimize=True)
    else:
        image.convert("RGB").save(
            file, format="JPEG", quality=QUALITY, optimize=True, progressive=True
        )
    kind = "png" if lossless else "jpeg"
    data = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return EncodedImage(data, *image.size, alt)


def tile(images: Images, row: int, side: int) -> numpy.ndarray:
    """(side, side, 3) uint8 of a packed image; Damaged where it cannot be decoded."""
    from PIL import Image

    try:
        found = Image.fromarray(np.ascontiguousarray(images.picture(int(row))))
    except OSError as error:
        raise CorruptArtifact(
            images.folder, f"image {images.ids[row]} cannot be read ({error})"
        ) from error
    return np.asarray(
        found.resize((side, side), Image.Resampling.BILINEAR if side < found.width else 0)
    )


def sheet(
    tiles: Sequence[numpy.ndarray],
    columns: int,
    frames: Sequence[tuple[int, int, int] | None] = (),
    gap: int = GAP,
    frame: int = FRAME,
) -> Image:
    """Tiles (h, w, 3) uint8 of one size in rows of `columns`, some of them in a colored frame."""
    from PIL import Image

    high, wide = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    ground = np.zeros((rows * (high + gap) - gap, columns * (wide + gap) - gap, 4), np.uint8)
    ground[..., :3] = GROUND  # for JPEG, which knows no transparency
    for number, one in enumerate(tiles):
        y, x = (high + gap) * (number // columns), (wide + gap) * (number % columns)
        ground[y : y + high, x : x + wide, :3] = one
        ground[y : y + high, x : x + wide, 3] = 255
        if number < len(frames) and frames[number] is not None:
            inside = np.s_[y + frame : y + high - frame, x + frame : x + wide - frame]
            shown = ground[inside].copy()
            ground[y : y + high, x : x + wide] = (*frames[number], 255)
            ground[inside] = shown
    return Image.fromarray(ground)


def stretched(batch: Tensor, side: int) -> list[numpy.ndarray]:
    """(B, 3, h, w) of any range to B tiles of `side` px, each over its own range, as `transfer show --batch` has it."""
    batch = batch.float()
    low, high = batch.amin((1, 2, 3), keepdim=True), batch.amax((1, 2, 3), keepdim=True)
    shown = (batch - low) / (high - low).clamp(min=1e-6)
    shown = (
        F.interpolate(shown, size=side, mode="area")
        if shown.shape[-1] > side
        else F.interpolate(shown, size=side)
    )
    return list((shown * 255).round().byte().permute(0, 2, 3, 1).numpy())


def filters(weight: Tensor, columns: int = 8, most: int = 64) -> Image:
    """(N, 3 or 1, h, w) first weights as a sheet, each filter over its own range around zero, in whole pixels."""
    weight = weight[:most].float()
    reach = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    shown = ((weight / reach + 1) * 127.5).round().byte()
    shown = shown.expand(-1, 3, -1, -1) if shown.shape[1] == 1 else shown
    times = max(1, 24 // max(shown.shape[-2:]))
    shown = shown.repeat_interleave(times, 2).repeat_interleave(times, 3)
    return sheet(list(shown.permute(0, 2, 3, 1).numpy()), columns, gap=6)


def stacked(rows: Sequence[numpy.ndarray]) -> Tensor:
    """Pictures (h, w, 3) uint8 as a batch (B, 3, h, w)."""
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)
