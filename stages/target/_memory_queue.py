"""A first-in, first-out queue of the features of the images seen last, the anchors of a loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MASKED = -1e9  # a logit that adds nothing to a softmax


class MemoryQueue(nn.Module):
    """Anchor features in buffers, so that a checkpoint holds them; empty slots are masked.

    An image is in the queue at most once. It is masked as an anchor of itself, because it would be
    the most similar of all, whatever it shows. The last slot is always empty.
    """

    teacher: Tensor  # (length + 1, D) the teacher's features
    own: Tensor | None  # (length + 1, D') the target's; None: the teacher's serve both
    next: Tensor  # () number of images so far; modulo `length`, the slot that is filled next
    image: Tensor  # (length + 1,) the image in each slot; -1: empty
    place: Tensor  # (images + 1,) the slot of each image; `length`: not in the queue

    def __init__(self, length: int, images: int, teacher_width: int, own_width: int | None):
        """Make an empty queue.

        Args:
            length: slots.
            images: images of the training set.
            teacher_width: values of the teacher's features.
            own_width: values of the target's features; None: the teacher's serve both.
        """
        super().__init__()
        slots = length + 1
        self.register_buffer("teacher", torch.zeros(slots, teacher_width))
        self.register_buffer("own", None if own_width is None else torch.zeros(slots, own_width))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))
        self.register_buffer("image", torch.full((slots,), -1))
        # The last entry is written for empty slots, whose image is -1.
        self.register_buffer("place", torch.full((images + 1,), length))
        self.length = length
        self._pending: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def logits(
        self,
        ids: Tensor,
        target_features: Tensor,
        teacher_features: Tensor,
        target_temperature: float,
        teacher_temperature: float,
        positive: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return two (B, length + 1) of cosines over a temperature: the target's, the teacher's.

        Args:
            ids: (B,) the images.
            target_features: (B, D') of unit length.
            teacher_features: (B, D) of unit length.
            target_temperature: divides the target's cosines.
            teacher_temperature: divides the teacher's cosines.
            positive: the last column compares with the teacher's features of the image itself.
        """
        mask = torch.where(self.image < 0, MASKED, 0.0)
        anchors = self.teacher if self.own is None else self.own
        itself = self.place[ids][:, None]
        target = torch.addmm(mask, target_features / target_temperature, anchors.T)
        target.scatter_(1, itself, MASKED)
        with torch.no_grad():
            teacher = torch.addmm(mask, teacher_features / teacher_temperature, self.teacher.T)
            teacher.scatter_(1, itself, MASKED)
        if positive:
            target[:, -1] = (target_features * teacher_features).sum(1) / target_temperature
            teacher[:, -1] = 1 / teacher_temperature
        return target, teacher

    def enqueue(self, ids: Tensor, teacher_features: Tensor, own_features: Tensor | None) -> None:
        """Hold a batch back until `flush`: the gradients of the step need the queue as it is.

        Args:
            ids: (B,) the images.
            teacher_features: (B, D).
            own_features: (B, D'); None where the teacher's serve both.
        """
        self._pending.append((ids, teacher_features, own_features))

    def flush(self) -> None:
        """Overwrite the oldest slots with the batches that were held back."""
        length = self.length
        for ids, teacher_features, own_features in self._pending:
            ids, teacher_features = ids[-length:], teacher_features[-length:]
            slots = (self.next + torch.arange(len(ids), device=ids.device)) % length
            self.image[self.place[ids]] = -1  # the former slots of these images
            self.place[self.image[slots]] = length  # the images that are overwritten
            self.image[slots], self.place[ids] = ids, slots
            self.place[-1] = length
            self.teacher[slots] = teacher_features
            if self.own is not None and own_features is not None:
                self.own[slots] = own_features[-length:]
            self.next.add_(len(ids))
        self._pending.clear()
