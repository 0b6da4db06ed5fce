"""The set `drawings`: ten classes of upright objects with parts, rendered without a download.

Proportions, colors, pose, place, size, light and noise differ between pictures; the pictures of
a class share the arrangement of their parts. A picture depends only on its split and index.
"""

from __future__ import annotations

from collections.abc import Sequence

from transfer.datasets.drawings.canvas import Canvas, CounterRng
from transfer.datasets.drawings.objects import CLASSES, OBJECTS, Drawing
from transfer.datasets.drawings.palette import mix_palette
from transfer.utils.lazy_imports import np

VERSION = 1  # part of the set's fingerprint: raise it when a pixel changes
SIZE = 64  # px
# Split -> number of pictures; the random numbers depend on the order.
SPLITS: dict[str, int] = {"unlabeled": 8000, "train": 2000, "test": 1000}
BATCH = 16  # pictures rendered at once, few enough for the processor's cache


def labels(split: str) -> np.ndarray:
    """Return the class of each picture of a split, (N,) int64; classes alternate."""
    return np.arange(SPLITS[split], dtype=np.int64) % len(CLASSES)


def render(split: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Render the pictures of a split at `indices`, (n, 64, 64, 3) uint8 RGB, in their order.

    KeyError for an unknown split, IndexError for an index outside it.
    """
    classes = labels(split)
    indices = np.asarray(indices, dtype=np.int64)
    pictures = np.empty((len(indices), SIZE, SIZE, 3), dtype=np.uint8)
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(classes):
        raise IndexError(f"split {split!r} has the pictures 0 to {len(classes) - 1}")
    for label, draw in enumerate(OBJECTS):
        rows = np.flatnonzero(classes[indices] == label)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            rng = CounterRng(list(SPLITS).index(split), indices[batch])
            pictures[batch] = picture(draw, rng)
    return pictures


def picture(draw: Drawing, rng: CounterRng) -> np.ndarray:
    """Render a batch of one object with random pose, ground and light: (n, 64, 64, 3) uint8."""
    palette = mix_palette(rng)
    reach = rng.between(0.31, 0.43) * SIZE
    width, height = reach * rng.between(0.88, 1.06), reach * rng.between(0.88, 1.06)
    room = SIZE / 2 - reach
    center = SIZE / 2 + room * rng.between(-0.8, 0.8), SIZE / 2 + room * rng.between(-0.8, 0.8)
    width = np.where(rng.chance(0.5), -width, width)
    canvas = Canvas(SIZE, center, (width, height), rng.between(-0.12, 0.12))
    draw(canvas, rng, palette)

    lit = canvas.over(gradient(palette.ground, rng)) * light(rng) >> 8
    grain = np.rint(rng.between(6, 20)).astype(np.int32)[:, None, None, None]
    return np.clip(lit + (rng.noise(SIZE) * grain >> 8), 0, 255).astype(np.uint8)


def gradient(color: np.ndarray, rng: CounterRng) -> np.ndarray:
    """Return a ground with a random color near `color` at each corner, interpolated bilinearly.

    The result is (n, 64, 64, 3) int32 in 0..255.
    """
    corners = (np.rint(np.clip(color + rng.tint(28), 0, 255)).astype(np.int32) for _ in range(4))
    top_left, top_right, low_left, low_right = (corner[:, None, None, :] for corner in corners)
    far = SIZE - 1
    ramp = np.arange(SIZE, dtype=np.int32)
    across, down = ramp[:, None], ramp[:, None, None]
    top = top_left * (far - across) + top_right * across
    low = low_left * (far - across) + low_right * across
    return (top * (far - down) + low * down) // (far * far)


def light(rng: CounterRng) -> np.ndarray:
    """Return the light on each pixel, stronger on one side: (n, 64, 64, 1) int32, 256 = neutral."""
    ramp = np.arange(SIZE, dtype=np.float64) - SIZE / 2
    strength, across, down = (
        rng.between(215, 285),
        rng.between(-1.2, 1.2),
        rng.between(-1.2, 1.2),
    )
    rows = strength[:, None] + down[:, None] * ramp
    lit = rows[:, :, None] + (across[:, None] * ramp)[:, None, :]
    return np.rint(lit).astype(np.int32)[..., None]
