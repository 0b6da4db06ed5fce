"""For tasks in which an image has to do with the others of its batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.errors import InvalidOption

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.training.recipe import TrainableStage
    from transfer.transforms.per_image_rng import PerImageRng


def partners(rng: PerImageRng, *shape: int) -> Tensor:
    """(B, *shape) int64: places in the batch of other images, all equally likely; the batch has two at least.

    Which image is drawn depends on which are in the batch, not on their order.
    """
    order = rng.ids.argsort()
    rank = order.argsort().view(-1, *(1 for _ in shape))
    return order[(rank + 1 + rng.integers(len(rng) - 1, *shape)) % len(rng)]


def check_batch(task: TrainableStage, planned: PlannedStage, why: str) -> None:
    """BadOption where a batch, or a part of it, is a single image; `why` is the reason, as in `the loss compares`."""
    count = planned.images["images"].stage.count
    batch = min(task.batch_size, count)
    if batch < 2:
        raise ValueError(f"{why}, and {planned.images['images'].label} has one image")
    if batch // task.accumulation_steps < 2:
        raise InvalidOption(
            "accumulation_steps",
            f"{batch} images in {task.accumulation_steps} parts leave single images, but {why}: "
            f"use {batch // 2} parts or fewer, or a larger batch",
        )
