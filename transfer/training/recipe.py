"""How a network is trained: the options that every trained stage has, its optimiser and its learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from transfer.lazy import torch
from transfer.stage import Stage, option

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class Trained(Stage):
    """Base of the stages that train a network. The defaults are those of most ImageNet recipes at a batch of 256."""

    smoke: ClassVar[dict[str, Any]] = {"epochs": 1}

    epochs: int = option(90, "passes over the images", ge=0)
    batch: int = option(256, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2)
    accumulate: int = option(1, "parts that a batch is cut into, their gradients summed: less memory", ge=1)
    optimizer: Literal["sgd", "adam", "adamw"] = option("sgd", "SGD has Nesterov momentum")
    learning_rate: float = option(0.1, "the highest it gets", gt=0)
    momentum: float = option(0.9, "of SGD", ge=0, lt=1)
    weight_decay: float = option(1e-4, "on weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option("cosine", "of the learning rate, after the warm-up")
    drops: list[float] = option(
        [0.33, 0.67, 0.89], "for `step`: shares of the training after which the rate falls to a tenth"
    )
    warmup: float = option(0.0, "epochs over which the rate rises from zero", ge=0)

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """One optimiser over all that asks for gradients."""
        weights = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
        others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [
            {"params": weights, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                groups, self.learning_rate, momentum=self.momentum, nesterov=self.momentum > 0, fused=True
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(groups, self.learning_rate, fused=True)

    def rate(self, epoch: float) -> float:
        """The learning rate after `epoch` epochs (fractions count)."""
        if epoch < self.warmup:
            return self.learning_rate * epoch / self.warmup
        share = (epoch - self.warmup) / max(1e-9, self.epochs - self.warmup)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        if self.schedule == "step":
            return self.learning_rate * 0.1 ** sum(epoch / max(1, self.epochs) >= drop for drop in self.drops)
        return self.learning_rate
