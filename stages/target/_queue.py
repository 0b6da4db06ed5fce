"""Anchors: a first-in, first-out queue of what the teacher, and perhaps the target, said of the images seen last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OUT = -1e4  # a cosine that no softmax notices: of places that are still empty


class Queue(nn.Module):
    """Buffers, so that a checkpoint has them; empty at first, and what is still empty counts for nothing."""

    def __init__(self, length: int, teacher: int, own: int | None):
        """teacher, own: widths of the features; own: None where the teacher's anchors serve both."""
        super().__init__()
        self.register_buffer("teacher", torch.zeros(length, teacher))
        self.register_buffer("own", None if own is None else torch.zeros(length, own))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self._coming: list[tuple[Tensor, Tensor | None]] = []

    def cosines(self, said: Tensor, wanted: Tensor, positive: bool = False) -> tuple[Tensor, Tensor]:
        """(B, length) of the teacher's features and of the target's; with `positive` the image itself comes first."""
        empty = torch.arange(len(self.teacher), device=said.device) >= self.seen
        own = self.teacher if self.own is None else self.own
        theirs, ours = wanted @ self.teacher.T, said @ own.T
        theirs, ours = theirs.masked_fill(empty, OUT), ours.masked_fill(empty, OUT)
        if positive:
            first = torch.ones_like(theirs[:, :1]), (said * wanted).sum(1, keepdim=True)
            theirs, ours = (torch.cat(pair, dim=1) for pair in zip(first, (theirs, ours), strict=True))
        return theirs, ours

    def bring(self, wanted: Tensor, said: Tensor | None) -> None:
        """Have a batch wait: until the step is done, its gradients need the queue as it is."""
        self._coming.append((wanted, said))

    def take_in(self) -> None:
        """What waits takes the places of what came first."""
        length = len(self.teacher)
        for wanted, said in self._coming:
            wanted, said = wanted[-length:], said if said is None else said[-length:]
            places = (self.seen + torch.arange(len(wanted), device=self.seen.device)) % length
            self.teacher[places] = wanted
            if self.own is not None:
                self.own[places] = said
            self.seen += len(wanted)
        self._coming.clear()
