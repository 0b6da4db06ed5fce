"""Random numbers for transforms: each image draws its own, from the seed, its number and the epoch alone.

A counter-based generator (splitmix64 over tensors): nothing is stored, so a resumed run draws what an undisturbed
one would; an image draws the same in any batch, in any order, on any device.
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
    """The finalizer of splitmix64 on int64 (wrapping); shifts are made logical by masking the sign's copies."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _FIRST
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _SECOND
    return x ^ ((x >> 31) & ((1 << 33) - 1))


class PerImageRng:
    """Draws for a batch of images; every call gives fresh numbers, the first dimension is the image.

    `ids` (B,) int64 names the images (their rows in the set); `seed` stands for stage, purpose and epoch.
    """

    def __init__(self, seed: int, ids: Tensor):
        self._state = _mix(_mix(ids.to(torch.int64) * _STEP + _signed(seed)) + _STEP)
        self._calls = 0
        self.ids, self.device = ids, ids.device

    def __len__(self) -> int:
        return len(self._state)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) float32, uniform over [0, 1)."""
        return (self._bits(shape) >> 40 & ((1 << 24) - 1)).to(torch.float32) * (1.0 / (1 << 24))

    def integers(self, high: int, *shape: int) -> Tensor:
        """(B, *shape) int64, uniform over 0 .. high - 1 (by remainder: the bias is below high / 2^53)."""
        if high < 1:
            raise ValueError(f"nothing to draw from: {high} integers")
        return (self._bits(shape) >> 11 & ((1 << 53) - 1)) % high

    def chance(self, probability: float, *shape: int) -> Tensor:
        """(B, *shape) bool, each true with `probability`."""
        return self.uniform(*shape) < probability

    def permutations(self, length: int, *shape: int) -> Tensor:
        """(B, *shape, length) int64: orders of `length` things, all equally likely."""
        return self._bits((*shape, length)).argsort(dim=-1)

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        self._calls += 1
        stream = _mix(self._state + _signed(self._calls * 0xD1342543DE82EF95))
        count = math.prod(shape)
        offsets = torch.arange(1, count + 1, device=self.device) * _STEP
        return _mix(stream[:, None] + offsets).view(len(stream), *shape)
