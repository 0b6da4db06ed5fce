"""Batches of synthetic images, and a generator of given numbers."""

from __future__ import annotations

import torch

from transfer.transforms.per_image_rng import PerImageRng

GRAY_LEVEL = 1 / 255


class Fixed(PerImageRng):
    """Draws given numbers (B, n)."""

    def __init__(self, numbers: torch.Tensor):
        super().__init__(0, torch.arange(len(numbers)))
        self.numbers = numbers

    def uniform(self, *shape: int) -> torch.Tensor:
        return self.numbers.view(-1, *shape)


def noise(
    count: int = 4, height: int = 32, width: int | None = None, seed: int = 0
) -> torch.Tensor:
    """(count, 3, height, width) uint8; square where no width is given."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, 3, height, width or height), dtype=torch.uint8, generator=generator
    )


def coordinates(count: int, size: int) -> torch.Tensor:
    """Images of the coordinates of their pixels in px: first channel x, second y, third 1."""
    line = torch.arange(size, dtype=torch.float32) + 0.5
    image = torch.stack(
        [line.expand(size, size), line[:, None].expand(size, size), torch.ones(size, size)]
    )
    return image.expand(count, 3, size, size)
