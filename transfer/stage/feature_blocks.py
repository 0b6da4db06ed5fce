# pyright: strict
"""Features read block by block, several side by side, with a check for finite values."""

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

BLOCK_VALUES = 1 << 20  # values of a block


class FeatureRows:
    """The rows of Features for k-means, kept in memory after the first pass if they fit.

    Args:
        features: the features.
        pause: called before each block, so that a pass over many rows can be interrupted.
    """

    def __init__(self, features: Features, pause: Callable[[], None] = lambda: None):
        self.features, self.pause = features, pause
        self.count, self.width = features.shape
        self._kept: list[tuple[int, numpy.ndarray]] | None = None

    def blocks(self) -> Iterator[tuple[int, numpy.ndarray]]:
        """Yield (first row, (n, D) float32) over all rows."""
        kept: list[tuple[int, numpy.ndarray]] | None
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
    """Yield (first row, (n, D) float32) over all rows, with several features side by side.

    Each block but the last consists of whole panels (`panel_rows`), so the place of a row in its
    panel depends on its number alone. TransferError names an image whose features are not finite.
    """
    width = max(1, sum(source.shape[1] for source in features))
    rows = max(1, BLOCK_VALUES // width)
    rows -= rows % min(rows, panel_rows(width))
    for parts in zip(*(source.blocks(rows) for source in features), strict=True):
        context.pause_point()
        for source, (first, block) in zip(features, parts, strict=True):
            if (bad := non_finite_row(block)) is not None:
                where = f"the features of {source.ids[first + bad]}{_input_name(context, source)}"
                raise TransferError(f"{where} are not finite; did the network diverge?")
        blocks = [block for _, block in parts]
        yield parts[0][0], blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def non_finite_row(block: numpy.ndarray) -> int | None:
    """Return the first row of (n, D) with a value that is not finite; None if all are finite."""
    finite = np.isfinite(block).all(axis=1)
    return None if finite.all() else int((~finite).argmax())


def _input_name(context: StageContext, features: Features) -> str:
    """Name the input of the features, ` (`features.1`)`; empty if the stage has only one."""
    names = [name for name, value in context.inputs.items() if value is features and "." in name]
    return f" (`{names[0]}`)" if names else ""
