"""Anchors: a first-in, first-out queue of what the teacher, and perhaps the target, said of the images seen last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OUT = -1e9  # what no softmax notices


class MemoryQueue(nn.Module):
    """Buffers, so that a checkpoint has them. Places that are still empty count for nothing.

    An image is in it once at most, and is no anchor of its own: it would be the most similar of all, whatever it shows.
    """

    def __init__(self, length: int, images: int, teacher: int, own: int | None):
        """images: in the set. teacher, own: widths of the features; own: None where the teacher's serve both."""
        super().__init__()
        # One place more than there are anchors: no image's, and of what is nowhere else.
        self.register_buffer("teacher", torch.zeros(length + 1, teacher))
        self.register_buffer("own", None if own is None else torch.zeros(length + 1, own))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))
        self.register_buffer("image", torch.full((length + 1,), -1))  # at each place, -1 for none
        self.register_buffer(
            "place", torch.full((images + 1,), length)
        )  # of each image; the last is that of none
        self.length = length
        self._coming: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def logits(
        self, ids: Tensor, said: Tensor, wanted: Tensor, own: float, theirs: float, positive: bool
    ) -> tuple[Tensor, Tensor]:
        """(B, length + 1) cosines over the temperatures `own` and `theirs`: the target's, and the teacher's.

        said, wanted: what they say of the images `ids`, of unit length. positive: the last column is the image itself.
        """
        empty = torch.where(self.image < 0, OUT, 0.0)
        anchors, itself = self.teacher if self.own is None else self.own, self.place[ids][:, None]
        ours = torch.addmm(empty, said / own, anchors.T).scatter_(1, itself, OUT)
        with torch.no_grad():
            wished = torch.addmm(empty, wanted / theirs, self.teacher.T).scatter_(1, itself, OUT)
        if positive:
            ours[:, -1] = (said * wanted).sum(1) / own
            wished[:, -1] = 1 / theirs
        return ours, wished

    def enqueue(self, ids: Tensor, wanted: Tensor, said: Tensor | None) -> None:
        """Have a batch wait: until the step is done, its gradients need the queue as it is."""
        self._coming.append((ids, wanted, said))

    def flush(self) -> None:
        """What waits takes the places of what came first."""
        length = self.length
        for ids, wanted, said in self._coming:
            ids, wanted, said = (
                ids[-length:],
                wanted[-length:],
                said if said is None else said[-length:],
            )
            places = (self.next + torch.arange(len(ids), device=ids.device)) % length
            self.image[self.place[ids]] = -1  # where these images were before
            self.place[self.image[places]] = length  # the images that were here
            self.image[places], self.place[ids] = ids, places
            self.place[-1] = length
            self.teacher[places] = wanted
            if self.own is not None:
                self.own[places] = said
            self.next.add_(len(ids))
        self._coming.clear()
