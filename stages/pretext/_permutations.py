"""Sets of permutations for puzzles, made from a seed; no file is shipped."""

from __future__ import annotations

from functools import cache
from itertools import chain, permutations
from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

ATTEMPTS = 10_000_000


@cache
def spread_permutations(count: int, tiles: int, distance: int, seed: int = 0) -> numpy.ndarray:
    """(count, tiles) int64: distinct orders, no two equal in more than `tiles - distance` places, none the identity.

    Random orders are taken one after the other if they are far enough from all before. The published set of 701 was
    made alike, and has the same distances. ValueError where there is no room for so many.
    """
    # RandomState's stream is frozen by numpy: the set is the same everywhere.
    random, chosen = np.random.RandomState(seed), np.empty((count, tiles), dtype=np.int64)
    found, tried = 0, 0
    identity = np.arange(tiles)
    while found < count:
        tried += 1
        if tried > min(ATTEMPTS, 2000 * count):
            raise ValueError(
                f"there are not {count} permutations of {tiles} tiles that differ in {distance} places"
            )
        candidate = random.permutation(tiles)
        far = (chosen[:found] != candidate).sum(axis=1).min(initial=tiles) >= distance
        if far and (candidate != identity).any():
            chosen[found] = candidate
            found += 1
    return chosen


@cache
def distant_permutations(count: int, tiles: int, seed: int = 0) -> numpy.ndarray:
    """(count, tiles) int64: distinct orders, as far from one another as a greedy choice makes them, none the identity.

    Noroozi & Favaro (2016) take next the order with the largest mean Hamming distance to those before. That alone lets
    single pairs be near: their set of 100 has two that differ in two places. So the smallest distance is made as large
    as can be first, and the mean second: the same mean (8.08 for 100), and no two that differ in less than six.
    """
    every = np.fromiter(chain.from_iterable(permutations(range(tiles))), dtype=np.uint8).reshape(
        -1, tiles
    )
    every = every[1:]  # the first is the identity
    if count > len(every):
        raise ValueError(
            f"there are not {count} permutations of {tiles} tiles, only {len(every)} besides the identity"
        )
    # Of orders that are equally far the first is taken: the seed says which. RandomState's stream is frozen by numpy.
    every = every[np.random.RandomState(seed).permutation(len(every))]
    places = np.ascontiguousarray(every.T)
    nearest, total, chosen = np.full(len(every), tiles), np.zeros(len(every), dtype=np.int64), [0]
    for _ in range(count - 1):
        distance = np.zeros(len(every), dtype=np.uint8)
        for place, tile in zip(places, every[chosen[-1]], strict=True):
            distance += place != tile
        np.minimum(nearest, distance, out=nearest)
        total += distance
        chosen.append(int((nearest * (tiles * count) + total).argmax()))
    return every[chosen].astype(np.int64)


def puzzle_tiles(size: int, tile: int | None, shift: int) -> tuple[int, int, int]:
    """(cell, tile, jitter) in px for images of `size` px cut into 3 x 3 cells.

    As published, a 255-px crop has cells of 85 px and tiles of 64 px. A tile lies `jitter` px or less from the corner
    of its cell, its color channels up to `shift` px further, and at least one px is left to the next cell, so no two
    tiles touch. ValueError where the cell has no room for that.
    """
    cell = size // 3
    tile = tile or round(cell * 64 / 85)
    jitter = cell - tile - shift - 1
    if jitter < 0:
        raise ValueError(
            f"images of {size} px have cells of {cell} px: no room for tiles of {tile} px, a channel "
            f"shift of {shift} px and a gap; use tiles of {max(1, cell - shift - 1)} px or less, or bigger images"
        )
    return cell, tile, jitter
