"""Features read block by block, several side by side, every value checked to be finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.numerics.feature_transforms import panel_rows
from transfer.numerics.kmeans import IN_MEMORY
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Features
    from transfer.stage.context import StageContext

BLOCK_VALUES = 1 << 20  # values that are read at once


class FeatureRows:
    """The rows of Features for k-means, kept in memory after the first pass if they fit.

    `pause` is called before each block, so that a pass over many rows can be interrupted.
    """

    def __init__(self, features: Features, pause: Callable[[], None] = lambda: None):
        self.features, self.pause = features, pause
        self.count, self.width = features.shape
        self._kept: list[tuple[int, numpy.ndarray]] | None = None

    def blocks(self) -> Iterator[tuple[int, numpy.ndarray]]:
        """Yield (first row, (n, D) float32) over all rows."""
        kept = [] if self.count * self.width * 4 <= IN_MEMORY else None
        for start, block in self._kept or self.features.blocks():
            self.pause()
            if kept is not None:
                kept.append((start, block))
            yield start, block
        self._kept = kept


def finite_blocks(
    context: StageContext, *features: Features
) -> Iterator[tuple[int, numpy.ndarray]]:
    """Yield (first row, (n, D) float32) over all rows; several features are side by side.

    Each block but the last consists of whole panels (`panel_rows`), so that the place of a row in
    its panel follows from its number alone. TransferError names the image whose features are not
    finite.
    """
    width = max(1, sum(source.shape[1] for source in features))
    rows = max(1, BLOCK_VALUES // width)
    rows -= rows % min(rows, panel_rows(width))
    for parts in zip(*(one.blocks(rows) for one in features), strict=True):
        context.pause_point()
        for source, (first, block) in zip(features, parts, strict=True):
            if (bad := non_finite_row(block)) is not None:
                where = f"the features of {source.ids[first + bad]}{_input_name(context, source)}"
                raise TransferError(f"{where} are not finite numbers; did the network diverge?")
        blocks = [block for _, block in parts]
        yield parts[0][0], blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def non_finite_row(block: numpy.ndarray) -> int | None:
    """The first row of (n, D) with a value that is not finite; None where all are finite."""
    finite = np.isfinite(block).all(axis=1)
    return None if finite.all() else int((~finite).argmax())


def _input_name(context: StageContext, features: Features) -> str:
    """Which of several inputs the features are: ` (`features.1`)`; empty for an only one."""
    names = [name for name, value in context.inputs.items() if value is features and "." in name]
    return f" (`{names[0]}`)" if names else ""
