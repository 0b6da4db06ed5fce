"""Partners of an image in its batch, for tasks that compare images of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.errors import InvalidOption

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.training.recipe import TrainableStage
    from transfer.transforms.per_image_rng import PerImageRng


def partners(rng: PerImageRng, *shape: int) -> Tensor:
    """Return (B, *shape) int64: places of other images in a batch of two or more, equally likely.

    The result depends on which images are in the batch, not on their order.
    """
    order = rng.ids.argsort()
    rank = order.argsort().view(-1, *(1 for _ in shape))
    return order[(rank + 1 + rng.integers(len(rng) - 1, *shape)) % len(rng)]


def check_batch(task: TrainableStage, planned: PlannedStage[Any], reason: str) -> None:
    """Raise ValueError for a batch of one image, InvalidOption for a part of one image.

    Args:
        task: the stage that is trained.
        planned: its place in the plan, with its images.
        reason: why one image is not enough, as a clause: `the loss compares two images`.
    """
    count = planned.images["images"].stage.count
    batch = min(task.batch_size, count)
    if batch < 2:
        raise ValueError(f"{reason}, but {planned.images['images'].label} has one image")
    if batch // task.accumulation_steps < 2:
        raise InvalidOption(
            "accumulation_steps",
            f"{batch} images in {task.accumulation_steps} parts leave single images, but {reason}: "
            f"use {batch // 2} parts or fewer, or a larger batch",
        )
