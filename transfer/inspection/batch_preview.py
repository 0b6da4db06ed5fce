"""Pictures for people: what a stage's network sees of a few images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transfer.errors import UsageError
from transfer.transforms.montage import montage
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    from transfer.api import Pipeline

ROWS = 6


def batch_picture(pipeline: Pipeline, name: str, target: Path) -> Path:
    """Write a PNG: a row an image, a column for each step on its way into the network of stage `name`."""
    one = pipeline.plan.find(name)[0]
    if not one.stage.has_preview():
        fitting = [other.label for other in pipeline.plan if other.stage.has_preview()]
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
