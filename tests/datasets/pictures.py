"""Batches of synthetic images, and a random generator of given numbers."""

from __future__ import annotations

import torch

from transfer.transforms.per_image_rng import PerImageRng

GRAY_LEVEL = 1 / 255


class Fixed(PerImageRng):
    """Returns given numbers, (B, n), instead of random ones."""

    def __init__(self, numbers: torch.Tensor):
        super().__init__(0, torch.arange(len(numbers)))
        self.numbers = numbers

    def uniform(self, *shape: int) -> torch.Tensor:
        return self.numbers.view(-1, *shape)


def noise(
    count: int = 4, height: int = 32, width: int | None = None, seed: int = 0
) -> torch.Tensor:
    """Return (count, 3, height, width) uint8; square without a width."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, 3, height, width or height), dtype=torch.uint8, generator=generator
    )


def coordinates(count: int, size: int) -> torch.Tensor:
    """Return images of pixel coordinates: channel 0 holds x, channel 1 y, channel 2 is 1."""
    line = torch.arange(size, dtype=torch.float32) + 0.5
    image = torch.stack(
        [line.expand(size, size), line[:, None].expand(size, size), torch.ones(size, size)]
    )
    return image.expand(count, 3, size, size)
