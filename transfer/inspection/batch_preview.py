"""Pictures for people: what a stage's network sees of a few images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transfer.errors import UsageError
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import F, np, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.api import Pipeline

ROWS = 6
SIDE = 160  # px of a picture in the montage
MARGIN = 10
CAPTION = 18


def batch_picture(pipeline: Pipeline, name: str, target: Path) -> Path:
    """Write a PNG: a row an image, a column for each step on its way into the network of stage `name`."""
    one = pipeline.plan.find(name)[0]
    if not hasattr(one.stage, "preview"):
        fitting = [other.label for other in pipeline.plan if hasattr(other.stage, "preview")]
        raise UsageError(
            f"{name} ({one.uses}) draws nothing from images; there is: {', '.join(fitting) or 'no stage that does'}"
        )
    pack = next(iter(one.images.values()))
    images = pipeline.artifact(pack.label)
    # Spread over the set, which may be sorted by class.
    rows = [i * len(images) // ROWS + i for i in range(min(ROWS, len(images)))]
    pixels = torch.from_numpy(np.stack([images.picture(row) for row in rows])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        columns = one.stage.preview(pixels, PerImageRng(one.seed, torch.tensor(rows)))
    montage(columns).save(target, format="PNG")
    return target


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
