"""Hand-made features: histograms of oriented gradients (Dalal & Triggs, CVPR 2005), without any network."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from stages.extract._resumable_writer import write_features
from transfer.artifacts import Features, Images
from transfer.errors import InvalidOption
from transfer.stage.base import ImageInput, Stage
from transfer.stage.options import option
from transfer.utils.lazy_imports import np
from transfer.utils.process_pool import CAN_FORK, forked_pool, pool_errors

if TYPE_CHECKING:
    from pathlib import Path

    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

BLOCK = 128  # images a task
FORKING = 4  # tasks from which processes pay for their start


class ExtractHog(Stage):
    """Histograms of gradient directions in cells, each block of cells normalized, all blocks end to end.

    Dimensions: (cells - cells_per_block + 1)^2 x cells_per_block^2 x orientations; 1,764 for images of 64 px. Clusters
    of them teach a network like those of learned features (Noroozi et al., CVPR 2018, have a row of it). The settings
    are those that Dalal & Triggs found best. What does not fill a cell, right and below, is left out.
    """

    produces = Features
    seeded = False
    images = {"images": ImageInput("unlabeled")}

    orientations: int = option(9, "directions told apart, over half a turn", ge=1)
    pixels_per_cell: int = option(8, "side of a cell, px", ge=2)
    cells_per_block: int = option(
        2, "side of a block, cells; blocks overlap by all but one cell", ge=1
    )
    block_norm: Literal["L1", "L1-sqrt", "L2", "L2-Hys"] = option(
        "L2-Hys", "L2-Hys: L2, cut off at 0.2, L2 again"
    )
    color: bool = option(
        True, "take each pixel's gradient from the color where it is strongest; false: of gray"
    )
    dtype: Literal["float16", "float32"] = option("float16", "how features are kept")

    def validate_plan(self, planned: PlannedStage) -> None:
        """The images hold a block at least."""
        size = planned.images["images"].stage.size
        cells = size // self.pixels_per_cell
        if cells < self.cells_per_block:
            held = f"images of {size} px hold {cells} x {cells} cells of {self.pixels_per_cell} px"
            raise InvalidOption(
                "cells_per_block", f"{held}, less than one block: take smaller cells or blocks"
            )

    def output_space(self, planned: PlannedStage) -> dict[str, Any]:
        return self.space(planned.images["images"].stage.size)

    def output_width(self, planned: PlannedStage) -> int:
        blocks = (
            planned.images["images"].stage.size // self.pixels_per_cell - self.cells_per_block + 1
        )
        return blocks**2 * self.cells_per_block**2 * self.orientations

    def space(self, size: int) -> dict[str, Any]:
        """What features must agree in to be compared, for images of `size` px."""
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
            rows = [
                range(first, min(first + BLOCK, len(images)))
                for first in range(start, len(images), BLOCK)
            ]
            with closing(_mapped(task, rows, context.runtime.threads)) as found:
                yield from zip((some.start for some in rows), found, strict=True)

        write_features(context, images, blocks, self.dtype, "hog", self.space(images.size))


def describe(folder: Path, settings: dict[str, Any], color: bool, rows: range) -> numpy.ndarray:
    """(len(rows), D) float32: the histograms of some images of the packed set in `folder`."""
    from skimage.color import rgb2gray
    from skimage.feature import hog

    images = Images(folder)
    pictures = (images.picture(row) for row in rows)
    if color:
        found = [hog(picture, channel_axis=-1, **settings) for picture in pictures]
    else:
        found = [hog(255 * rgb2gray(picture), **settings) for picture in pictures]
    return np.stack(found).astype(np.float32)


def _mapped(
    task: Callable[[range], numpy.ndarray], rows: list[range], workers: int
) -> Generator[numpy.ndarray, None, None]:
    """The blocks in order, by several processes where they can be forked: threads would wait for one another."""
    if workers == 1 or len(rows) < FORKING or not CAN_FORK:
        yield from map(task, rows)
        return
    pool = forked_pool(workers)
    try:
        with pool_errors("computes features"):
            yield from pool.map(task, rows)
    finally:
        pool.shutdown(cancel_futures=True)
