"""Anchors: a first-in, first-out queue of what the teacher, and perhaps the target, said of the images seen last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OUT = -1e9  # what no softmax notices: of places that are still empty


class Queue(nn.Module):
    """Buffers, so that a checkpoint has them; empty at first, and what is still empty counts for nothing."""

    def __init__(self, length: int, teacher: int, own: int | None):
        """teacher, own: widths of the features; own: None where the teacher's anchors serve both."""
        super().__init__()
        self.register_buffer("teacher", torch.zeros(length, teacher))
        self.register_buffer("own", None if own is None else torch.zeros(length, own))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self._coming: list[tuple[Tensor, Tensor | None]] = []

    def logits(self, said: Tensor, wanted: Tensor, own: float, theirs: float, positive: bool) -> tuple[Tensor, Tensor]:
        """(B, length) cosines over the temperatures `own` and `theirs`: the target's, and the teacher's.

        said, wanted: what they say of the images, of unit length. positive: the image itself comes first.
        """
        empty = torch.where(torch.arange(len(self.teacher), device=said.device) >= self.seen, OUT, 0.0)
        anchors = self.teacher if self.own is None else self.own
        ours = torch.addmm(empty, said / own, anchors.T)
        with torch.no_grad():
            wished = torch.addmm(empty, wanted / theirs, self.teacher.T)
        if positive:
            ours = torch.cat([(said * wanted).sum(1, keepdim=True) / own, ours], dim=1)
            wished = torch.cat([torch.full_like(wished[:, :1], 1 / theirs), wished], dim=1)
        return ours, wished

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
