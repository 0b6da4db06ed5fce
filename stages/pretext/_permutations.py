"""Sets of permutations for puzzles, made from a seed, and the layout of their tiles."""

from __future__ import annotations

from functools import cache
from itertools import chain, permutations
from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

ATTEMPTS = 10_000_000  # random permutations that are tried at most


@cache
def spread_permutations(count: int, tiles: int, distance: int, seed: int = 0) -> numpy.ndarray:
    """Return (count, tiles) int64: distinct permutations with a least Hamming distance.

    Random permutations are accepted one after the other if they are far enough from all before.
    The published set of 701 has the same smallest and mean distance (3 and 8.0) and somewhat more
    near pairs; how it was made is not known. The identity is left out. ValueError where the search
    does not find enough permutations.

    Args:
        count: number of permutations.
        tiles: length of a permutation.
        distance: least number of places in which two permutations differ.
        seed: seed of the search.
    """
    # numpy has frozen RandomState's stream: the set is the same everywhere.
    random, accepted = np.random.RandomState(seed), np.empty((count, tiles), dtype=np.int64)
    size, attempts = 0, 0
    identity = np.arange(tiles)
    while size < count:
        attempts += 1
        if attempts > min(ATTEMPTS, 2000 * count):
            raise ValueError(
                f"{count} permutations of {tiles} tiles that differ in {distance} places: "
                f"the search found {size}; use fewer permutations or a smaller distance"
            )
        candidate = random.permutation(tiles)
        is_far = (accepted[:size] != candidate).sum(axis=1).min(initial=tiles) >= distance
        if is_far and (candidate != identity).any():
            accepted[size] = candidate
            size += 1
    return accepted


@cache
def distant_permutations(count: int, tiles: int, seed: int = 0) -> numpy.ndarray:
    """Return (count, tiles) int64: distinct permutations, made distant by a greedy choice.

    Noroozi & Favaro (2016) choose next the permutation with the largest mean Hamming distance to
    those before. That alone permits near pairs: in their set of 100, two permutations differ in two
    places. So the smallest distance is maximized first, and the mean second. The mean is the same
    (8.08 for 100), and no two permutations differ in less than six places. The identity is left
    out. ValueError for more permutations than exist.

    Args:
        count: number of permutations.
        tiles: length of a permutation.
        seed: seed of the choice between equally distant permutations.
    """
    numbers = np.fromiter(chain.from_iterable(permutations(range(tiles))), dtype=np.uint8)
    every = numbers.reshape(-1, tiles)[1:]  # the first is the identity
    if count > len(every):
        raise ValueError(
            f"{count} permutations of {tiles} tiles: only {len(every)} exist without the identity"
        )
    # Of equally distant permutations the first is chosen, so the seed shuffles them. numpy has
    # frozen RandomState's stream: the set is the same everywhere.
    every = every[np.random.RandomState(seed).permutation(len(every))]
    places = np.ascontiguousarray(every.T)
    nearest, total = np.full(len(every), tiles), np.zeros(len(every), dtype=np.int64)
    chosen = [0]
    for _ in range(count - 1):
        distance = np.zeros(len(every), dtype=np.uint8)
        for place, tile in zip(places, every[chosen[-1]], strict=True):
            distance += place != tile
        np.minimum(nearest, distance, out=nearest)
        total += distance
        chosen.append(int((nearest * (tiles * count) + total).argmax()))
    return every[chosen].astype(np.int64)


def puzzle_tiles(
    size: int, tile: int | None, shift: int, jitter: int | None = None
) -> tuple[int, int, int]:
    """Return (cell, tile, jitter) in px for images that are cut into 3 x 3 cells.

    As published, a 255-px crop has cells of 85 px and tiles of 64 px. A tile is at most `jitter` px
    from the corner of its cell, and its color channels up to `shift` px further. By default, one px
    at least is left to the next cell, so that no two tiles touch. ValueError where the cell is too
    small.

    Args:
        size: side of the images in px.
        tile: side of a tile in px; none: 64/85 of the cell's side.
        shift: largest shift between the color channels in px.
        jitter: largest distance from the corner in px; none: what leaves a px to the next cell.
    """
    cell = size // 3
    tile = tile or round(cell * 64 / 85)
    if jitter is not None:
        if tile + jitter + shift > cell:
            raise ValueError(
                f"tiles of {tile} px with a jitter of {jitter} px and a channel shift of {shift} "
                f"px do not fit in cells of {cell} px; the largest jitter is "
                f"{max(0, cell - tile - shift)}"
            )
        return cell, tile, jitter
    jitter = cell - tile - shift - 1
    if jitter < 0:
        raise ValueError(
            f"images of {size} px have cells of {cell} px: too small for tiles of {tile} px, a "
            f"channel shift of {shift} px and a gap; use tiles of {max(1, cell - shift - 1)} px or "
            "less, or bigger images"
        )
    return cell, tile, jitter
