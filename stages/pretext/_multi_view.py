"""Several views of each image in one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from transfer.transforms.per_image_rng import PerImageRng

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.training.recipe import TrainableStage


def check_views(
    views: Callable[[Tensor, PerImageRng], Tensor], images: Tensor, rng: PerImageRng, count: int
) -> Tensor:
    """(count * B, 3, S, S): `count` views of each of the (B, 3, H, W) images, all first views first.

    One batch instead of `count`: a stream of random numbers of its own for each view of each image, from its draw.
    """
    streams = rng.integers(1 << 53, count).T.flatten()
    copies = (
        images.permute(0, 2, 3, 1).repeat(count, 1, 1, 1).permute(0, 3, 1, 2)
    )  # the layout of the packed set
    return views(copies, PerImageRng(0, streams))


def smallest_part(recipe: TrainableStage, count: int) -> int:
    """The fewest of `count` images that are ever put through the network together in training."""
    batch = min(recipe.batch_size, count)
    return batch // min(recipe.accumulation_steps, batch)
