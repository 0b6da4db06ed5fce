"""A picture of a few images on their way into the network of a stage."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.artifacts import Images
from transfer.errors import UsageError
from transfer.transforms.montage import montage
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import np, torch
from transfer.utils.output_file import write_output

if TYPE_CHECKING:
    from transfer.api import Pipeline

ROWS = 6


def write_preview(pipeline: Pipeline, name: str, target: Path) -> None:
    """Write a PNG with a row for each image and a column for each step of a stage's `preview`.

    Args:
        pipeline: the pipeline; the images that the stage reads must be packed.
        name: the stage.
        target: the file to write.
    """
    planned = pipeline.plan.find(name)[0]
    if not planned.stage.has_preview():
        labels = [other.label for other in pipeline.plan if other.stage.has_preview()]
        hint = f"choose from: {', '.join(labels)}" if labels else "no stage of this file has one"
        raise UsageError(f"{name} ({planned.uses}): has no preview; {hint}")
    pack = next(iter(planned.images.values()))
    images = pipeline.artifact(pack.label)
    assert isinstance(images, Images)
    # Spread over the set, which may be sorted by class.
    rows = [i * len(images) // ROWS + i for i in range(min(ROWS, len(images)))]
    pixels = torch.from_numpy(np.stack([images.picture(row) for row in rows])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        columns = planned.stage.preview(pixels, PerImageRng(planned.seed, torch.tensor(rows)))
    data = BytesIO()
    montage(columns).save(data, format="PNG")
    write_output(target, data.getvalue())
