"""The part of `target/similarity` that is trained with the backbone: heads, queues, a slow copy."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from stages.target._memory_queue import MemoryQueue
from transfer.transforms.normalize import Normalization, normalize


class SimilarityHead(nn.Module):
    """A head and a queue for each teacher, and perhaps a slow copy of the target."""

    heads: nn.ModuleList
    queues: nn.ModuleList
    slow: nn.ModuleDict | None  # `backbone` and `heads`: moving averages of those that are trained

    def __init__(
        self,
        backbone: nn.Module,
        heads: list[nn.Module],
        queues: list[MemoryQueue],
        has_slow_copy: bool,
    ):
        """Collect the modules.

        Args:
            backbone: the target's.
            heads: from the target's features to the width of each teacher.
            queues: the anchors of each teacher.
            has_slow_copy: copy the target; the copy is not trained.
        """
        super().__init__()
        self.heads, self.queues = nn.ModuleList(heads), nn.ModuleList(queues)
        copy = nn.ModuleDict({"backbone": backbone, "heads": self.heads}) if has_slow_copy else None
        self.slow = copy and deepcopy(copy).requires_grad_(False)

    def queue(self, number: int) -> MemoryQueue:
        """The queue of a teacher."""
        queue = self.queues[number]
        assert isinstance(queue, MemoryQueue)
        return queue

    def slow_features(self, crops: Tensor, normalization: Normalization) -> list[Tensor]:
        """Return (B, D) of each head of the slow copy; empty without a copy."""
        if self.slow is None:
            return []
        heads = self.slow["heads"]
        assert isinstance(heads, nn.ModuleList)
        # As in CompRess: only batch norms work as in training, so that dropout adds no noise.
        self.slow.eval()
        for module in self.slow.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.train()
        with torch.no_grad():
            features = self.slow["backbone"](normalize(crops, normalization)).flatten(1)
            return [head(features).float() for head in heads]

    def after_step(self, backbone: nn.Module, momentum: float) -> None:
        """Enqueue the batch of the step, and move the slow copy toward the target."""
        for number in range(len(self.queues)):
            self.queue(number).flush()
        if self.slow is not None:
            fast = nn.ModuleDict({"backbone": backbone, "heads": self.heads})
            update_ema(self.slow, fast, momentum)


def update_ema(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Move each weight of `slow` toward that of `fast`, and copy the buffers of batch norms.

    Args:
        slow: the moving average.
        fast: the module that is trained.
        momentum: share of its former value that a weight keeps.
    """
    for average, weight in zip(slow.parameters(), fast.parameters(), strict=True):
        average.lerp_(weight, 1 - momentum)
    for average, value in zip(slow.buffers(), fast.buffers(), strict=True):
        average.copy_(value)
