"""Several views of each image in one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from transfer.transforms.per_image_rng import PerImageRng

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.training.recipe import TrainableStage


def stack_views(
    augment: Callable[[Tensor, PerImageRng], Tensor], images: Tensor, rng: PerImageRng, count: int
) -> Tensor:
    """Return views of each image, (count * B, 3, S, S): all first views, then all second views, ...

    All views are made as one batch instead of `count` batches. Each view of each image has its own
    stream of random numbers.

    Args:
        augment: makes one view of each image.
        images: (B, 3, H, W).
        rng: random numbers for each image.
        count: views of each image.
    """
    streams = rng.integers(1 << 53, count).T.flatten()
    # The copies keep the memory layout of the packed images, channels last.
    copies = images.permute(0, 2, 3, 1).repeat(count, 1, 1, 1).permute(0, 3, 1, 2)
    return augment(copies, PerImageRng(0, streams))


def smallest_part(recipe: TrainableStage, count: int) -> int:
    """Return the least number of `count` images that go through the network together."""
    batch = min(recipe.batch_size, count)
    return batch // min(recipe.accumulation_steps, batch)
