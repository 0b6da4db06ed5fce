"""The set `drawings`: ten kinds of upright objects with parts, drawn on the spot, so nothing is downloaded.

Proportions, colors, pose, place, size, light and noise differ from picture to picture; the arrangement of an
object's parts is what its pictures have in common. A picture is a function of its split and index alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from transfer.datasets.drawings.canvas import Canvas, CounterRng
from transfer.datasets.drawings.objects import CLASSES, OBJECTS, Drawing, mix_palette
from transfer.utils.lazy_imports import np

VERSION = 1  # part of the set's fingerprint: raise it when a pixel changes
SIZE = 64
SPLITS: dict[str, int] = {
    "unlabeled": 8000,
    "train": 2000,
    "test": 1000,
}  # their order is part of the hash

BATCH = 16  # pictures drawn at once: few enough for the processor's cache


# The directions of the six petals: cosine and sine of the multiples of 60 degrees.


def labels(split: str) -> np.ndarray:
    """The class of each picture of a split, (N,) int64; the classes take turns, so they are balanced."""
    return np.arange(SPLITS[split], dtype=np.int64) % len(CLASSES)


def render(split: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """The pictures of a split at `indices`, (n, 64, 64, 3) uint8 RGB, in the order asked for."""
    classes = labels(split)
    indices = np.asarray(indices, dtype=np.int64)
    pictures = np.empty((len(indices), SIZE, SIZE, 3), dtype=np.uint8)
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(classes):
        raise IndexError(f"the split {split!r} has the pictures 0 to {len(classes) - 1}")
    for label, draw in enumerate(OBJECTS):
        rows = np.flatnonzero(classes[indices] == label)
        for start in range(0, len(rows), BATCH):
            chosen = rows[start : start + BATCH]
            pictures[chosen] = picture(draw, CounterRng(list(SPLITS).index(split), indices[chosen]))
    return pictures


def picture(draw: Drawing, draws: CounterRng) -> np.ndarray:
    """One object at a place of its own, over its ground, in its light: (n, 64, 64, 3) uint8."""
    paints = mix_palette(draws)
    reach = draws.between(0.31, 0.43) * SIZE
    width, height = reach * draws.between(0.88, 1.06), reach * draws.between(0.88, 1.06)
    room = SIZE / 2 - reach
    center = SIZE / 2 + room * draws.between(-0.8, 0.8), SIZE / 2 + room * draws.between(-0.8, 0.8)
    width = np.where(draws.chance(0.5), -width, width)
    canvas = Canvas(SIZE, center, (width, height), draws.between(-0.12, 0.12))
    draw(canvas, draws, paints)

    lit = canvas.over(gradient(paints.ground, draws)) * light(draws) >> 8
    grain = np.rint(draws.between(6, 20)).astype(np.int32)[:, None, None, None]
    return np.clip(lit + (draws.noise(SIZE) * grain >> 8), 0, 255).astype(np.uint8)


def gradient(color: np.ndarray, draws: CounterRng) -> np.ndarray:
    """A ground that goes softly from corner to corner, about its color: (n, 64, 64, 3) int32 in 0..255."""
    corners = (np.rint(np.clip(color + draws.tint(28), 0, 255)).astype(np.int32) for _ in range(4))
    top_left, top_right, low_left, low_right = (corner[:, None, None, :] for corner in corners)
    far = SIZE - 1
    ramp = np.arange(SIZE, dtype=np.int32)
    across, down = ramp[:, None], ramp[:, None, None]
    top = top_left * (far - across) + top_right * across
    low = low_left * (far - across) + low_right * across
    return (top * (far - down) + low * down) // (far * far)


def light(draws: CounterRng) -> np.ndarray:
    """How brightly each pixel is lit, more from one side: (n, 64, 64, 1) int32, 256 = as painted."""
    ramp = np.arange(SIZE, dtype=np.float64) - SIZE / 2
    strength, across, down = (
        draws.between(215, 285),
        draws.between(-1.2, 1.2),
        draws.between(-1.2, 1.2),
    )
    rows = strength[:, None] + down[:, None] * ramp
    lit = rows[:, :, None] + (across[:, None] * ramp)[:, None, :]
    return np.rint(lit).astype(np.int32)[..., None]
