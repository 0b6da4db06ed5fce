"""How a network is trained: the options that every trained stage has, its optimizer and its learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from transfer.stage.base import Stage
from transfer.stage.options import option
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def lr_milestones(shares: list[float]) -> Any:
    """The option `drops` with this default."""
    help = "shares of the training after which the rate falls to a tenth"
    return option(shares, help, applies_when={"schedule": ["step"]})


class TrainableStage(Stage):
    """Base of the stages that train a network. The defaults are those of most ImageNet recipes at a batch of 256."""

    smoke: ClassVar[dict[str, Any]] = {"epochs": 1}
    is_trained = True

    epochs: int = option(90, "passes over the images", ge=0)
    batch_size: int = option(
        256, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    accumulation_steps: int = option(
        1, "parts that a batch is cut into, their gradients summed: less memory", ge=1
    )
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option("sgd", "SGD has Nesterov momentum")
    learning_rate: float = option(0.1, "the highest it gets", gt=0)
    momentum: float = option(0.9, "of SGD and LARS; of Adam, its first beta", ge=0, lt=1)
    weight_decay: float = option(1e-4, "on weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "cosine", "of the learning rate, after the warm-up"
    )
    milestones: list[float] = lr_milestones([0.33, 0.67, 0.89])
    warmup_epochs: float = option(0.0, "epochs over which the rate rises from zero", ge=0)

    # part of the network -> what its learning rate is multiplied with
    lr_scales: ClassVar[dict[str, float]] = {}

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """One optimizer over all that asks for gradients; a group's rate is the recipe's times its `scale`."""
        groups: dict[tuple[bool, float], dict[str, Any]] = {}
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                weight, scale = parameter.ndim > 1, self.lr_scales.get(name.partition(".")[0], 1.0)
                decay = self.weight_decay if weight else 0.0
                empty = {"params": [], "weight_decay": decay, "scale": scale, "adapt": weight}
                groups.setdefault((not weight, scale), empty)["params"].append(parameter)
        ordered = [groups[key] for key in sorted(groups)]
        if self.optimizer == "lars":
            from transfer.training.lars import Lars

            return Lars(ordered, self.learning_rate, momentum=self.momentum)
        if self.optimizer == "sgd":
            nesterov = self.momentum > 0
            return torch.optim.SGD(
                ordered, self.learning_rate, momentum=self.momentum, nesterov=nesterov, fused=True
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(ordered, self.learning_rate, betas=(self.momentum, 0.999), fused=True)

    def learning_rate_at(self, epoch: float) -> float:
        """The learning rate after `epoch` epochs (fractions count)."""
        if epoch < self.warmup_epochs:
            return self.learning_rate * epoch / self.warmup_epochs
        share = (epoch - self.warmup_epochs) / max(1e-9, self.epochs - self.warmup_epochs)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        if self.schedule == "step":
            return self.learning_rate * 0.1 ** sum(
                epoch / max(1, self.epochs) >= drop for drop in self.milestones
            )
        return self.learning_rate
