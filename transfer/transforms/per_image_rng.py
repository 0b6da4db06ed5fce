"""Random numbers for transforms, which depend only on the seed, the image and the epoch.

The generator is counter-based (splitmix64 over tensors) and stores nothing, so a resumed run draws
the numbers of an uninterrupted one. An image draws the same in any batch, order and device.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_STEP = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _mix(x: Tensor) -> Tensor:
    """Return the finalizer of splitmix64 on int64, which wraps.

    Masks remove the copies of the sign bit, which makes the shifts logical.
    """
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _FIRST
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _SECOND
    return x ^ ((x >> 31) & ((1 << 33) - 1))


class PerImageRng:
    """Random numbers for a batch: each call draws new ones; the first dimension is the image."""

    def __init__(self, seed: int, ids: Tensor):
        """Derive a state for each image.

        Args:
            seed: of the stage, the purpose and the epoch.
            ids: (B,) integers that identify the images, such as their rows in the set.
        """
        self._state = _mix(_mix(ids.to(torch.int64) * _STEP + _signed(seed)) + _STEP)
        self._calls = 0
        self.ids, self.device = ids, ids.device

    def __len__(self) -> int:
        return len(self._state)

    def uniform(self, *shape: int) -> Tensor:
        """Draw (B, *shape) float32, uniform over [0, 1)."""
        return (self._bits(shape) >> 40 & ((1 << 24) - 1)).to(torch.float32) * (1.0 / (1 << 24))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Draw (B, *shape) int64, uniform over 0 .. high - 1; ValueError if `high` is below 1.

        They are remainders of 53 bits, with a bias below high / 2^53.
        """
        if high < 1:
            raise ValueError(f"high: {high} leaves no integers to draw from; it must be at least 1")
        return (self._bits(shape) >> 11 & ((1 << 53) - 1)) % high

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Draw (B, *shape) bool, each true with `probability`."""
        return self.uniform(*shape) < probability

    def permutations(self, length: int, *shape: int) -> Tensor:
        """Draw permutations of 0 .. length - 1, (B, *shape, length) int64, all equally likely."""
        return self._bits((*shape, length)).argsort(dim=-1)

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        self._calls += 1
        stream = _mix(self._state + _signed(self._calls * 0xD1342543DE82EF95))
        count = math.prod(shape)
        offsets = torch.arange(1, count + 1, device=self.device) * _STEP
        return _mix(stream[:, None] + offsets).view(len(stream), *shape)
