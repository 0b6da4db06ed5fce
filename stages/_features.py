"""Features as stages read them: block by block, several side by side, each value a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.lazy import np
from transfer.preparation import panel_rows

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Features
    from transfer.work import Work

BLOCK = 1 << 20  # values that are read at once


def sound_blocks(work: Work, *features: Features) -> Iterator[tuple[int, numpy.ndarray]]:
    """(first row, (n, D) float32) over all rows; of several features of the same images, their values side by side.

    Each block but the last is of whole panels (`panel_rows`): so a row's place in its panel
    follows from its number alone.
    TransferError names the image whose features are no numbers.
    """
    width = max(1, sum(one.shape[1] for one in features))
    rows = max(1, BLOCK // width)
    rows -= rows % min(rows, panel_rows(width))
    for found in zip(*(one.blocks(rows) for one in features), strict=True):
        work.pause_point()
        for one, (first, block) in zip(features, found, strict=True):
            if (bad := unsound(block)) is not None:
                which = next(
                    (f" (`{name}`)" for name, other in work.inputs.items() if other is one and "." in name), ""
                )
                raise TransferError(f"the features of {one.ids[first + bad]}{which} are not finite numbers")
        blocks = [block for _, block in found]
        yield found[0][0], blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def unsound(block: numpy.ndarray) -> int | None:
    """The first row of (n, D) that has a value which is no finite number; None where all are."""
    finite = np.isfinite(block).all(axis=1)
    return None if finite.all() else int((~finite).argmax())
