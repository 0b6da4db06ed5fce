"""The progress of a training, as its checkpoint keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transfer.training.checkpoint import load_checkpoint
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer


@dataclass
class TrainingState:
    """The progress of a training, besides the weights and the optimizer."""

    step: int = 0  # of all epochs
    history: list[dict[str, float]] = field(default_factory=list)  # of finished epochs
    epoch_steps: int = 0  # steps of this epoch so far
    sums: dict[str, Tensor] = field(default_factory=dict)  # loss and figures, over these steps

    @staticmethod
    def resume(
        path: Path, network: nn.Module, optimizer: Optimizer, device: torch.device
    ) -> TrainingState:
        """Load the checkpoint, if there is a valid one; else return the initial state."""
        facts = load_checkpoint(path, network, optimizer)
        if facts is None:
            return TrainingState()
        sums = {name: torch.tensor(value, device=device) for name, value in facts["sums"].items()}
        return TrainingState(facts["step"], facts["history"], facts["counted"], sums)

    def to_json(self) -> dict[str, Any]:
        """Return the facts of a checkpoint."""
        sums = {name: float(value) for name, value in self.sums.items()}
        return {
            "step": self.step,
            "history": self.history,
            "counted": self.epoch_steps,
            "sums": sums,
        }

    def add(self, figures: dict[str, Tensor], weight: float) -> None:
        """Add the loss and figures of a part of a batch, without waiting for the device."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().float() * weight

    def means(self) -> dict[str, float]:
        """Return the mean loss and figures of this epoch so far."""
        return {name: float(value) / max(1, self.epoch_steps) for name, value in self.sums.items()}
