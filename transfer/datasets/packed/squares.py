"""The squares of a listing: its images, decoded and resized, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from transfer.datasets.readers.base import Listing
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.datasets.packed.decode_workers import Outcomes


class ImageSquarer:
    """A function from a row of a listing to its square: pixels, or JPEG bytes to pack as JPEG."""

    def __init__(self, listing: Listing, size: int, fit: str, jpeg: bool):
        """Choose the form of the squares.

        Args:
            listing: the images of the split.
            size: side of a square in px.
            fit: `crop` or `stretch`, as `decode.square` has it.
            jpeg: whether squares are JPEG bytes, not (size, size, 3) uint8.
        """
        self.read, self.size, self.fit, self.jpeg = listing.read, size, fit, jpeg

    def __call__(self, row: int) -> numpy.ndarray | bytes:
        """Return the square of a row; BadImage or OSError if it has none."""
        from transfer.datasets.packed.decode import decode, is_square_jpeg, square, to_jpeg

        data = self.read(row)
        picture = decode(data) if isinstance(data, bytes) else data
        if self.jpeg and isinstance(data, bytes) and is_square_jpeg(data, self.size):
            return data  # unchanged, because encoding it again would lose quality
        picture = square(picture, self.size, self.fit)
        return to_jpeg(picture) if self.jpeg else picture


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
