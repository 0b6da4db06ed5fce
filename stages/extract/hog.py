"""HOG: histograms of oriented gradients, without a network (Dalal & Triggs, CVPR 2005)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from stages.extract._resumable_writer import write_features
from transfer.artifacts import Features, Images
from transfer.errors import InvalidOption
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.options import option
from transfer.utils.lazy_imports import np
from transfer.utils.process_pool import CAN_FORK, forked_pool, pool_errors

if TYPE_CHECKING:
    from pathlib import Path

    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

BLOCK = 128  # images of a task
FORKING = 4  # tasks from which starting processes saves time


class ExtractHog(Stage):
    """Compute histograms of gradient directions in cells, normalized in overlapping blocks.

    Dimensions: (cells - cells_per_block + 1)^2 x cells_per_block^2 x orientations; 1,764 for images
    of 64 px. Clusters of them serve as pseudo-labels, as those of learned features do (Noroozi et
    al., CVPR 2018, report it). The defaults are those that Dalal & Triggs found best. Pixels at the
    right and below that do not fill a cell are ignored.
    """

    produces = Features
    seeded = False
    images = {"images": ImageInput("unlabeled")}

    orientations: int = option(9, "bins of the gradient directions, over half a turn", ge=1)
    pixels_per_cell: int = option(8, "side of a cell, px", ge=2)
    cells_per_block: int = option(
        2, "side of a block, cells; blocks overlap by all but one cell", ge=1
    )
    block_norm: Literal["L1", "L1-sqrt", "L2", "L2-Hys"] = option(
        "L2-Hys", "norm of a block; L2-Hys: L2, clipped at 0.2, L2 again"
    )
    color: bool = option(
        True, "use the gradient of the strongest color channel of each pixel; false: of gray"
    )
    dtype: Literal["float16", "float32"] = option("float16", "number format of the saved features")

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption for images that are smaller than a block."""
        size = planned.images["images"].stage.size
        cells = size // self.pixels_per_cell
        if cells < self.cells_per_block:
            raise InvalidOption(
                "cells_per_block",
                f"images of {size} px hold {cells} x {cells} cells of {self.pixels_per_cell} px, "
                "less than one block; use smaller cells or blocks",
            )

    def output_space(self, planned: PlannedStage[Any]) -> dict[str, Any]:
        return self.space(planned.images["images"].stage.size)

    def output_width(self, planned: PlannedStage[Any]) -> int:
        cells = planned.images["images"].stage.size // self.pixels_per_cell
        blocks = cells - self.cells_per_block + 1
        return blocks**2 * self.cells_per_block**2 * self.orientations

    def space(self, size: int) -> dict[str, Any]:
        """What comparable features of images of `size` px have in common."""
        return {"features": "hog", "size": size} | self.model_dump(exclude={"dtype"})

    def run(self, context: StageContext) -> None:
        images = context.images["images"]
        settings = {
            "orientations": self.orientations,
            "pixels_per_cell": (self.pixels_per_cell, self.pixels_per_cell),
            "cells_per_block": (self.cells_per_block, self.cells_per_block),
            "block_norm": self.block_norm,
        }
        task = partial(describe, images.folder, settings, self.color)

        def blocks(start: int) -> Generator[tuple[int, numpy.ndarray], None, None]:
            starts = range(start, len(images), BLOCK)
            tasks = [range(first, min(first + BLOCK, len(images))) for first in starts]
            with closing(_run_tasks(task, tasks, context.runtime.threads)) as histograms:
                yield from zip(starts, histograms, strict=True)

        write_features(context, images, blocks, self.dtype, "hog", self.space(images.size))


def describe(folder: Path, settings: dict[str, Any], color: bool, rows: range) -> numpy.ndarray:
    """Compute the histograms of some images.

    Args:
        folder: of the packed images.
        settings: arguments of scikit-image's `hog`.
        color: use the strongest color channel of each pixel; else gray.
        rows: of the images.

    Returns:
        (len(rows), D) float32.
    """
    from skimage.color import rgb2gray
    from skimage.feature import hog

    images = Images(folder)
    pictures = (images.picture(row) for row in rows)
    if color:
        histograms = [hog(picture, channel_axis=-1, **settings) for picture in pictures]
    else:
        histograms = [hog(255 * rgb2gray(picture), **settings) for picture in pictures]
    return np.stack(histograms).astype(np.float32)


def _run_tasks(
    task: Callable[[range], numpy.ndarray], rows: list[range], workers: int
) -> Generator[numpy.ndarray, None, None]:
    """Yield the blocks in order, from several processes where they can be forked.

    Threads would wait for one another.
    """
    if workers == 1 or len(rows) < FORKING or not CAN_FORK:
        yield from map(task, rows)
        return
    pool = forked_pool(workers)
    try:
        with pool_errors("computes features"):
            yield from pool.map(task, rows)
    finally:
        pool.shutdown(cancel_futures=True)
