"""The squares of a listing: its images, decoded and resized, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from transfer.datasets.readers.base import Listing
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.datasets.packed.decode import DecodeOptions
    from transfer.datasets.packed.decode_workers import Outcomes, Square


class ImageSquarer:
    """A function from a row of a listing to its square: pixels, or JPEG bytes to pack as JPEG."""

    def __init__(self, listing: Listing, size: int, fit: str, jpeg: bool, options: DecodeOptions):
        """Choose the form of the squares.

        Args:
            listing: the images of the split.
            size: side of a square in px.
            fit: `crop` or `stretch`, as `decode.square` has it.
            jpeg: whether squares are JPEG bytes, not (size, size, 3) uint8.
            options: how encoded images are decoded.
        """
        self.read, self.size, self.fit, self.jpeg = listing.read, size, fit, jpeg
        self.options = options

    def __call__(self, row: int) -> Square:
        """Return the square of a row; BadImage or OSError if it has none."""
        from transfer.datasets.packed.decode import (
            decode_picture,
            is_square_jpeg,
            square,
            to_jpeg,
        )
        from transfer.datasets.packed.decode_workers import Square

        data, remarks = self.read(row), ()
        if isinstance(data, bytes):
            pixels, remarks = decode_picture(data, self.options)
            if self.jpeg and is_square_jpeg(data, self.size):
                # Unchanged, because encoding it again would lose quality.
                return Square(data, remarks)
        else:
            pixels = data
        pixels = square(pixels, self.size, self.fit)
        return Square(to_jpeg(pixels) if self.jpeg else pixels, remarks)


def square_blocks(
    squarer: ImageSquarer, listing: Listing, rows: Sequence[int], block: int, workers: int
) -> Iterator[tuple[Sequence[int], numpy.ndarray, Outcomes]]:
    """Yield blocks of rows, their pixels and the outcomes that are not pixels.

    The next block is decoded while the caller works on the current one, whose pixels are valid
    only until then.

    Args:
        squarer: decodes a row.
        listing: the images; those that it renders are only resized.
        rows: the rows to decode.
        block: most rows of a block.
        workers: number of processes or threads.
    """
    from transfer.datasets.packed.decode import square
    from transfer.datasets.packed.decode_workers import Decoders, wait

    blocks = [rows[start : start + block] for start in range(0, len(rows), block)]
    if listing.render is not None:
        for block_rows in blocks:
            pictures = listing.render(block_rows)
            yield (
                block_rows,
                np.stack([square(picture, squarer.size, squarer.fit) for picture in pictures]),
                {},
            )
        return
    block = min(block, max(1, len(rows)))
    with Decoders(squarer, squarer.size, block, 2, workers, len(rows)) as decoders:
        loading = decoders.load(0, blocks[0]) if blocks else []
        for number, block_rows in enumerate(blocks):
            outcomes = wait(loading)
            if number + 1 < len(blocks):
                loading = decoders.load((number + 1) % 2, blocks[number + 1])
            yield block_rows, decoders.slots[number % 2], outcomes


def split_outcomes(
    rows: Sequence[int], pixels: numpy.ndarray, outcomes: Outcomes
) -> tuple[dict[int, str], list[numpy.ndarray | bytes]]:
    """Return the faults of a block, row -> message, and the squares of its other rows."""
    faults: dict[int, str] = {}
    squares: list[numpy.ndarray | bytes] = []
    for place, row in enumerate(rows):
        outcome = outcomes.get(place)
        if outcome is not None and outcome.fault:
            faults[row] = outcome.fault
        else:
            encoded = outcome.encoded if outcome is not None else None
            squares.append(pixels[place] if encoded is None else encoded)
    return faults, squares
