"""How a network is trained: options of all trained stages, optimizer and learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from transfer.stage.base import Stage
from transfer.stage.options import option
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class TrainableStage(Stage):
    """Base of the stages that train a network.

    The defaults are those of most ImageNet recipes with a batch size of 256. A stage changes some
    of them by `defaults`, which keeps type, help and bounds:

        class SimCLR(Pretext):
            defaults = {"epochs": 200, "optimizer": "lars", "weight_decay": 1e-6}
    """

    smoke: ClassVar[dict[str, Any]] = {"epochs": 1}
    is_trained = True

    epochs: int = option(90, "passes over the images", ge=0)
    batch_size: int = option(
        256, "images per step; an incomplete last batch is left to other epochs", ge=2
    )
    accumulation_steps: int = option(
        1, "parts of a batch whose gradients are summed: less memory", ge=1
    )
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option(
        "sgd", "`sgd` uses Nesterov momentum"
    )
    learning_rate: float = option(0.1, "peak learning rate", gt=0)
    momentum: float = option(0.9, "momentum of SGD and LARS; first beta of Adam", ge=0, lt=1)
    weight_decay: float = option(1e-4, "weight decay; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "cosine", "learning rate after the warm-up"
    )
    milestones: list[float] = option(
        [0.33, 0.67, 0.89],
        "shares of the training after which the rate falls to a tenth",
        applies_when={"schedule": ["step"]},
    )
    warmup_epochs: float = option(0.0, "epochs over which the learning rate rises from zero", ge=0)

    # Part of the network -> factor of its learning rate.
    lr_scales: ClassVar[dict[str, float]] = {}

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """Make the optimizer of all parameters that require gradients.

        The learning rate of a group is the recipe's times its `scale`.
        """
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
        """Return the learning rate after `epoch` epochs, which may be a fraction.

        With L the highest rate, w the warm-up, E all epochs, s = (epoch - w) / (E - w): L epoch / w
        during the warm-up, then L (1 + cos(pi s)) / 2 (cosine), L 0.1^(milestones passed) (step),
        or L (constant).
        """
        if epoch < self.warmup_epochs:
            return self.learning_rate * epoch / self.warmup_epochs
        share = (epoch - self.warmup_epochs) / max(1e-9, self.epochs - self.warmup_epochs)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        if self.schedule == "step":
            done = epoch / max(1, self.epochs)
            return self.learning_rate * 0.1 ** sum(done >= share for share in self.milestones)
        return self.learning_rate
