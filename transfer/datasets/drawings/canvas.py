"""A canvas that draws batches of small pictures with numpy, to the same bytes on every machine.

It computes with integers and with the float64 operations that IEEE 754 rounds exactly
(+ - * / sqrt), and draws random numbers from an integer hash. The stream of `numpy.random` and
the last bit of `sin` or `exp`, which it avoids, may differ between versions and processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from transfer.utils.lazy_imports import np

Number: TypeAlias = "float | np.ndarray"  # a value for all pictures of a batch, or (n,) values
Point: TypeAlias = "tuple[Number, Number]"

# Shapes are compared in int16, twice as fast as int32: half-planes in 1/64 subpixel, whose range
# is over 256 subpixels, and ellipses as the squared distance to the center, with the edge at 2^13.
FINE = 64
ROUND = 1 << 13
LIMIT = (1 << 14) - 1  # each of two summands is clipped to it, so that the sum cannot wrap


def scramble(counter: np.ndarray) -> np.ndarray:
    """Return SplitMix64 of (...) uint64 counters: (...) uint64 random bits."""
    bits = counter * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


class CounterRng:
    """Random numbers for a batch: the k-th draw of a picture depends only on its key and k."""

    def __init__(self, stream: int, indices: np.ndarray):
        """Derive the keys from `indices` (n,) int64 of the pictures, and `stream`, their split."""
        # An array, because numpy warns when scalars wrap around.
        start = scramble(np.full(len(indices), stream + 1, dtype=np.uint64))
        self.keys = scramble(start + indices.astype(np.uint64))
        self.count = 0

    def bits(self) -> np.ndarray:
        """Draw (n,) uint64."""
        self.count += 1
        return scramble(self.keys + np.uint64(self.count))

    def between(self, low: Number, high: Number) -> np.ndarray:
        """Draw (n,) float64, uniform in [low, high)."""
        return low + (high - low) * ((self.bits() >> np.uint64(11)).astype(np.float64) / 2**53)

    def chance(self, probability: float) -> np.ndarray:
        """Draw (n,) bool, true with the given probability."""
        return self.between(0, 1) < probability

    def tint(self, spread: float) -> np.ndarray:
        """Draw an offset of a color, (n, 3) float64, each channel uniform in -spread..spread."""
        return np.stack([self.between(-spread, spread) for _ in range(3)], axis=1)

    def noise(self, size: int) -> np.ndarray:
        """Draw (n, size, size, 3) int32 in -255..255: sums of two bytes, standard deviation 104."""
        pixels = np.arange(size * size, dtype=np.uint64)
        # Little-endian, so that the bytes have the same order on every machine.
        words = scramble(self.bits()[:, None] + pixels).astype("<u8", copy=False)
        octets = words.view(np.uint8).reshape(-1, size, size, 8)
        return octets[..., 0:3].astype(np.int32) + octets[..., 3:6] - 255


class Canvas:
    """A batch of pictures, each a stack of flat parts drawn at twice the final resolution.

    An object is drawn in its own frame, x to the right and y down, both in -1..1, which the pose
    of each picture maps to pixels. Colors are (n, 3) float64 in 0..255. Later parts cover earlier
    ones; `when` (n,) bool leaves a part out of the pictures where it is false.
    """

    def __init__(
        self,
        size: int,
        center: tuple[np.ndarray, np.ndarray],
        reach: tuple[np.ndarray, np.ndarray],
        lean: np.ndarray,
    ):
        """Start with empty pictures.

        Args:
            size: side of a picture in px.
            center: x and y of the frame's center in px, (n,) float64 each.
            reach: half the width and height of the frame in px, (n,) float64 each; a negative
                width mirrors.
            lean: shift of the top to the side, in half widths, (n,) float64.
        """
        self.size, self.batch = size, len(lean)
        self.center, self.reach, self.lean = center, reach, lean
        # Number of the part that each subpixel shows; 0 is the ground.
        self.parts = np.zeros((self.batch, 2 * size, 2 * size), dtype=np.uint8)
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
        """Draw an upright ellipse.

        Args:
            x: of the center.
            y: of the center.
            rx: radius along x.
            ry: radius along y.
            color: (n, 3).
            hole: the share of the radii that is left empty, which makes a ring.
            above: only the part above this y is drawn.
            below: only the part below this y is drawn.
            when: the pictures that have the ellipse.
        """
        across, down = self._place(x, y)
        columns = (self._middles - across) / (2 * self.reach[0] * rx)[:, None]
        rows = (self._middles - down) / (2 * self.reach[1] * ry)[:, None]
        top, bottom = self._place(0, below)[1], self._place(0, above)[1]
        kept = (self._middles <= bottom) & (self._middles >= top)
        rows = np.where(kept, rows, 2.0)  # 2 radii from the center: outside of the ellipse
        distance = self._spread(columns * columns * ROUND, rows * rows * ROUND)
        mask = distance <= ROUND
        if hole:
            mask &= distance >= int(hole * hole * ROUND)
        self._paint(mask, color, when)

    def polygon(
        self, corners: Sequence[Point], color: np.ndarray, *, when: np.ndarray | None = None
    ) -> None:
        """Draw a convex polygon, with its corners in either order around it."""
        placed = [self._place(x, y) for x, y in corners]
        middle_x, middle_y = (sum(axis) / len(placed) for axis in zip(*placed, strict=True))
        mask = np.ones(self.parts.shape, dtype=bool)
        for (x0, y0), (x1, y1) in zip(placed, placed[1:] + placed[:1], strict=True):
            along_x, along_y = x1 - x0, y1 - y0
            # The sign shows on which side of the edge the polygon is.
            inside = (middle_y - y0) * along_x - (middle_x - x0) * along_y
            unit = np.sqrt(along_x * along_x + along_y * along_y) + 1e-9
            unit = np.where(inside < 0, -unit, unit) / FINE
            columns = (self._middles - x0) * (-along_y / unit)
            rows = (self._middles - y0) * (along_x / unit)
            mask &= self._spread(columns, rows) >= 0
        self._paint(mask, color, when)

    def rectangle(
        self, corner: Point, opposite: Point, color: np.ndarray, *, when: np.ndarray | None = None
    ) -> None:
        """Draw the box between two corners."""
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
        """Draw a straight line.

        Args:
            start: of the line.
            end: of the line.
            width: thickness.
            color: (n, 3).
            when: the pictures that have the line.
        """
        (x0, y0), (x1, y1) = start, end
        along_x, along_y = x1 - x0, y1 - y0
        half = width / 2 / np.sqrt(along_x * along_x + along_y * along_y)
        dx, dy = -along_y * half, along_x * half
        corners = [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)]
        self.polygon(corners, color, when=when)

    def over(self, ground: np.ndarray) -> np.ndarray:
        """Return the parts over `ground`, averaged over 2x2 subpixels.

        Both are (n, size, size, 3) int32 in 0..255.
        """
        # A subpixel is four 16-bit lanes, summed at once: red, green, blue, and 1 for the ground.
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
        """Return a point of the frame in subpixels, (n, 1) each."""
        across = self.center[0] + self.reach[0] * (x - self.lean * y)
        down = self.center[1] + self.reach[1] * y
        return 2 * across[:, None], 2 * down[:, None]

    def _spread(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return columns[x] + rows[y], (n, 2 size, 2 size) int16, from (n, 2 size) float64 each."""
        columns, rows = (
            np.rint(np.clip(term, -LIMIT, LIMIT)).astype(np.int16) for term in (columns, rows)
        )
        return columns[:, None, :] + rows[:, :, None]

    def _paint(self, mask: np.ndarray, color: np.ndarray, when: np.ndarray | None) -> None:
        """Add a part: parts are numbered in order, and the highest number is on top."""
        self.colors.append(color)
        number = np.full((self.batch, 1, 1), len(self.colors), dtype=np.uint8)
        if when is not None:
            number[~when] = 0
        np.maximum(self.parts, mask.view(np.uint8) * number, out=self.parts)
