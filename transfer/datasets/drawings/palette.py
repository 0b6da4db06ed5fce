"""The colors of the set `drawings`."""

from __future__ import annotations

from typing import NamedTuple

from transfer.datasets.drawings.canvas import CounterRng
from transfer.utils.lazy_imports import np


class Palette(NamedTuple):
    """The colors of one picture, (n, 3) float64 in 0..255 each."""

    ground: np.ndarray
    body: np.ndarray
    trim: np.ndarray
    detail: np.ndarray
    shade: np.ndarray  # the body's color on the side away from the light
    shadow: np.ndarray  # the ground's color under the object


LIGHTNESS = (50.0, 100.0, 150.0, 200.0)  # far enough apart to distinguish the parts


def mix_palette(rng: CounterRng) -> Palette:
    """Draw the colors of a batch of pictures.

    Four lightnesses are dealt at random to ground and parts, so that colors do not give the
    object away.
    """
    lots = np.stack([rng.between(0, 1) for _ in range(4)], axis=1)
    # The ground is the lightest in 2 of 5 pictures.
    lots[:, 0] = np.maximum(lots[:, 0], rng.between(0, 1))
    ranks = (lots[:, :, None] > lots[:, None, :]).sum(axis=2)
    colors = []
    for part in range(4):
        tint = rng.tint(44)
        gray = (tint[:, 0] + tint[:, 1] + tint[:, 2]) / 3
        colors.append(
            tint + (np.array(LIGHTNESS)[ranks[:, part]] + rng.between(-14, 14) - gray)[:, None]
        )
    ground, body, trim, detail = colors
    return Palette(ground, body, trim, detail, shade=body * 0.78, shadow=ground * 0.8)
