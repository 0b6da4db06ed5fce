"""Drawing batches of small pictures with numpy, to the same bytes on every machine.

Arithmetic is in integers and in the float64 operations that IEEE 754 rounds exactly (+ - * / sqrt), and
random numbers come from an integer hash. The stream of `numpy.random` and the last bit of `sin` or `exp` may
differ between versions and processors; these may not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from transfer.utils.lazy_imports import np

Number: TypeAlias = (
    "float | np.ndarray"  # one value for all pictures of a batch, or (n,), one for each
)
Point: TypeAlias = "tuple[Number, Number]"

# Shapes are compared in int16, twice as fast as int32: half-planes in 1/64 subpixel, which reaches over 256
# of them, and ellipses as the squared distance to the center, the edge being at 2^13.
FINE = 64
ROUND = 1 << 13
LIMIT = (1 << 14) - 1  # what each term of a sum of two is clipped to, so that it cannot wrap


def scramble(counter: np.ndarray) -> np.ndarray:
    """SplitMix64: (...) uint64 counters to (...) uint64 random bits."""
    bits = counter * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


class CounterRng:
    """Random numbers for a batch of pictures: the k-th draw of a picture depends on its key and k alone."""

    def __init__(self, stream: int, indices: np.ndarray):
        """`indices` (n,) int64 name the pictures, `stream` the set that they belong to."""
        start = scramble(
            np.full(len(indices), stream + 1, dtype=np.uint64)
        )  # arrays wrap around in silence
        self.keys = scramble(start + indices.astype(np.uint64))
        self.count = 0

    def bits(self) -> np.ndarray:
        """(n,) uint64."""
        self.count += 1
        return scramble(self.keys + np.uint64(self.count))

    def between(self, low: Number, high: Number) -> np.ndarray:
        """(n,) float64, uniform in [low, high)."""
        return low + (high - low) * ((self.bits() >> np.uint64(11)).astype(np.float64) / 2**53)

    def chance(self, probability: float) -> np.ndarray:
        """(n,) bool, true with the given probability."""
        return self.between(0, 1) < probability

    def tint(self, spread: float) -> np.ndarray:
        """(n, 3) float64: what to add to a color, each channel uniform in -spread..spread."""
        return np.stack([self.between(-spread, spread) for _ in range(3)], axis=1)

    def noise(self, size: int) -> np.ndarray:
        """(n, size, size, 3) int32 in -255..255: sums of two bytes, of standard deviation 104."""
        pixels = np.arange(size * size, dtype=np.uint64)
        words = scramble(self.bits()[:, None] + pixels).astype(
            "<u8", copy=False
        )  # low byte first everywhere
        octets = words.view(np.uint8).reshape(-1, size, size, 8)
        return octets[..., 0:3].astype(np.int32) + octets[..., 3:6] - 255


class Canvas:
    """A batch of pictures, each a pile of flat parts drawn at twice the final resolution.

    An object is drawn in a frame of its own, x to the right and y down, both in -1..1, and each picture's
    pose takes that frame to its place. Colors are (n, 3) float64 in 0..255. Where parts overlap, the later
    covers the earlier; `when` (n,) bool leaves a part out of the pictures where it is false.
    """

    def __init__(self, size: int, center: Point, reach: Point, lean: np.ndarray):
        """`center` (x, y) and `reach` (half the frame's width and height) in pixels, (n,) float64 each, the
        half width negative to mirror; `lean` (n,) is how far the top goes aside, in half widths."""
        self.size, self.batch = size, len(lean)
        self.center, self.reach, self.lean = center, reach, lean
        self.parts = np.zeros(
            (self.batch, 2 * size, 2 * size), dtype=np.uint8
        )  # 0 = ground, k = k-th part
        self.colors: list[np.ndarray] = []
        self._middles = np.arange(2 * size, dtype=np.float64) + 0.5

    def ellipse(
        self,
        x: Number,
        y: Number,
        rx: Number,
        ry: Number,
        color: np.ndarray,
        *,
        hole: float = 0,
        above: Number = 9,
        below: Number = -9,
        when: np.ndarray | None = None,
    ) -> None:
        """An upright ellipse about (x, y): a ring where `hole`, the empty share of its radii, is given, and
        only what lies above the line y = `above` and below the line y = `below`."""
        across, down = self._place(x, y)
        columns = (self._middles - across) / (2 * self.reach[0] * rx)[:, None]
        rows = (self._middles - down) / (2 * self.reach[1] * ry)[:, None]
        kept = (self._middles <= self._place(0, above)[1]) & (
            self._middles >= self._place(0, below)[1]
        )
        rows = np.where(kept, rows, 2.0)  # a row that is cut off lies out of the ellipse's reach
        distance = self._spread(columns * columns * ROUND, rows * rows * ROUND)
        mask = distance <= ROUND
        if hole:
            mask &= distance >= int(hole * hole * ROUND)
        self._paint(mask, color, when)

    def polygon(
        self, corners: Sequence[Point], color: np.ndarray, *, when: np.ndarray | None = None
    ) -> None:
        """A convex polygon, its corners in order, either way round."""
        placed = [self._place(x, y) for x, y in corners]
        middle_x, middle_y = (sum(axis) / len(placed) for axis in zip(*placed, strict=True))
        mask = np.ones(self.parts.shape, dtype=bool)
        for (x0, y0), (x1, y1) in zip(placed, placed[1:] + placed[:1], strict=True):
            along_x, along_y = x1 - x0, y1 - y0
            inside = (middle_y - y0) * along_x - (
                middle_x - x0
            ) * along_y  # its sign tells which side is in
            unit = np.sqrt(along_x * along_x + along_y * along_y) + 1e-9
            unit = np.where(inside < 0, -unit, unit) / FINE
            columns, rows = (
                (self._middles - x0) * (-along_y / unit),
                (self._middles - y0) * (along_x / unit),
            )
            mask &= self._spread(columns, rows) >= 0
        self._paint(mask, color, when)

    def rectangle(
        self, corner: Point, opposite: Point, color: np.ndarray, *, when: np.ndarray | None = None
    ) -> None:
        """The box between two corners."""
        (x0, y0), (x1, y1) = corner, opposite
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color, when=when)

    def stroke(
        self,
        start: Point,
        end: Point,
        width: Number,
        color: np.ndarray,
        *,
        when: np.ndarray | None = None,
    ) -> None:
        """A straight line `width` thick."""
        (x0, y0), (x1, y1) = start, end
        along_x, along_y = x1 - x0, y1 - y0
        half = width / 2 / np.sqrt(along_x * along_x + along_y * along_y)
        dx, dy = -along_y * half, along_x * half
        corners = [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)]
        self.polygon(corners, color, when=when)

    def over(self, ground: np.ndarray) -> np.ndarray:
        """The parts over `ground`, 2x2 subpixels to a pixel; both (n, size, size, 3) int32 in 0..255."""
        # A subpixel is four 16-bit lanes, summed at once: red, green, blue, and 1 where it shows the ground.
        palette = np.zeros((len(self.colors) + 1, self.batch), dtype=np.uint64)
        palette[0] = 1 << 48
        for number, color in enumerate(self.colors, 1):
            red, green, blue = np.clip(np.rint(color), 0, 255).astype(np.uint64).T
            palette[number] = red | green << np.uint64(16) | blue << np.uint64(32)
        fine = np.stack(
            [colors[parts] for colors, parts in zip(palette.T, self.parts, strict=True)]
        )
        rows = fine[:, 0::2] + fine[:, 1::2]
        lanes = (rows[:, :, 0::2] + rows[:, :, 1::2]).astype("<u8", copy=False).view("<u2")
        lanes = lanes.reshape(self.batch, self.size, self.size, 4).astype(np.int32)
        return (lanes[..., :3] + lanes[..., 3:] * ground + 2) >> 2

    def _place(self, x: Number, y: Number) -> tuple[np.ndarray, np.ndarray]:
        """A point of the frame in subpixels, (n, 1) each."""
        across = self.center[0] + self.reach[0] * (x - self.lean * y)
        down = self.center[1] + self.reach[1] * y
        return 2 * across[:, None], 2 * down[:, None]

    def _spread(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """columns[x] + rows[y] over the picture, (n, 2 size, 2 size) int16, from (n, 2 size) float64 each."""
        columns, rows = (
            np.rint(np.clip(term, -LIMIT, LIMIT)).astype(np.int16) for term in (columns, rows)
        )
        return columns[:, None, :] + rows[:, :, None]

    def _paint(self, mask: np.ndarray, color: np.ndarray, when: np.ndarray | None) -> None:
        """Parts are numbered as they come, so the higher number is the one on top."""
        self.colors.append(color)
        number = np.full((self.batch, 1, 1), len(self.colors), dtype=np.uint8)
        if when is not None:
            number[~when] = 0
        np.maximum(self.parts, mask.view(np.uint8) * number, out=self.parts)
