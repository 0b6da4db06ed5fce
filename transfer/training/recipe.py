"""How a network is trained: options of all trained stages, optimizer and learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, model_validator

from transfer.models import VGG, AlexNet
from transfer.stage.base import Stage
from transfer.stage.options import option
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

REPLACED_BY_RATES = ("learning_rate", "schedule", "milestones")
# torchvision, references/classification/README.md: the default of 0.1 "is too high" for AlexNet and
# for VGG without batch norm, which it trains with 1e-2.
PLAIN_RATE = 0.01


def _numeric_epochs(value: Any) -> Any:
    """Return the mapping with its keys as numbers, which are text in a pipeline file."""
    if not isinstance(value, dict):
        return value
    try:
        return {float(epoch): rate for epoch, rate in value.items()}
    except (TypeError, ValueError):
        raise ValueError("must map epochs to learning rates: {0: 0.01, 15: 1e-3}") from None


Rates = Annotated[dict[float, float], BeforeValidator(_numeric_epochs)]


def check_rates(rates: dict[float, float]) -> None:
    """Raise ValueError unless `rates` begins at epoch 0, ascends, and has rates above zero."""
    epochs = list(rates)
    if not epochs or epochs[0] != 0:
        raise ValueError("`rates` must begin with epoch 0, as in {0: 0.01, 15: 1e-3}")
    if epochs != sorted(epochs):
        raise ValueError(f"`rates` must ascend in epochs; they are {', '.join(map(str, epochs))}")
    if not all(0 < rate < math.inf for rate in rates.values()):
        raise ValueError("`rates` must all be above zero")


class PartRecipe(NamedTuple):
    """What the recipe of a part of a network has of its own."""

    scale: float = 1.0  # factor of the learning rate
    constant: bool = False  # whether the rate stays at its peak
    weight_decay: float = -1.0  # below 0: the recipe's
    beta2: float = 0.0  # of Adam; 0: the recipe's


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
    optimizer: Literal["sgd", "nesterov", "adam", "adamw", "lars"] = option(
        "nesterov", "`sgd` and `nesterov` differ in their momentum"
    )
    learning_rate: float = option(0.1, "peak learning rate", gt=0)
    momentum: float = option(0.9, "momentum of SGD and LARS; first beta of Adam", ge=0, lt=1)
    beta2: float = option(
        0.999, "second beta of Adam", applies_when={"optimizer": ["adam", "adamw"]}, ge=0, lt=1
    )
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
    rates: Rates | None = option(
        None,
        "learning rates by epoch, in place of `learning_rate`, `schedule` and `milestones`: "
        "{0: 0.01, 15: 1e-3} is 0.01 up to epoch 15, then 1e-3",
    )

    @model_validator(mode="after")
    def _check_recipe(self) -> TrainableStage:
        if 0 < self.epochs <= self.warmup_epochs:
            raise ValueError(
                f"`warmup_epochs: {self.warmup_epochs:g}` leaves nothing of `epochs: "
                f"{self.epochs}`; choose fewer epochs of warm-up"
            )
        if self.rates is not None:
            check_rates(self.rates)
            if both := [name for name in REPLACED_BY_RATES if name in self.model_fields_set]:
                raise ValueError(f"`rates` replaces `{both[0]}`; leave one of the two out")
        return self

    # Part of the network -> what its recipe has of its own.
    part_recipes: ClassVar[dict[str, PartRecipe]] = {}

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """Make the optimizer of all parameters that require gradients.

        The learning rate of a group is that of `learning_rate_at`, or the peak if it is `constant`,
        times its `scale`.
        """
        groups: dict[tuple[bool, PartRecipe], dict[str, Any]] = {}
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                part = self.part_recipes.get(name.partition(".")[0], PartRecipe())
                weight = parameter.ndim > 1
                key = (not weight, part)
                groups.setdefault(key, self._group(part, weight))["params"].append(parameter)
        ordered = [groups[key] for key in sorted(groups)]
        if self.optimizer == "lars":
            from transfer.training.lars import Lars

            return Lars(ordered, self.peak_rate, momentum=self.momentum)
        if self.optimizer in ("sgd", "nesterov"):
            nesterov = self.optimizer == "nesterov" and self.momentum > 0
            return torch.optim.SGD(
                ordered, self.peak_rate, momentum=self.momentum, nesterov=nesterov, fused=True
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(ordered, self.peak_rate, betas=(self.momentum, self.beta2), fused=True)

    def _group(self, part: PartRecipe, weight: bool) -> dict[str, Any]:
        """Return an empty group of parameters, of weights or of biases and norms."""
        decay = self.weight_decay if part.weight_decay < 0 else part.weight_decay
        group = {
            "params": [],
            "weight_decay": decay if weight else 0.0,
            "scale": part.scale,
            "constant": part.constant,
            "adapt": weight,
        }
        is_adam = self.optimizer in ("adam", "adamw")
        return group | ({"betas": (self.momentum, part.beta2)} if is_adam and part.beta2 else {})

    @property
    def peak_rate(self) -> float:
        """The learning rate after the warm-up."""
        return self.learning_rate if self.rates is None else self.rates[0]

    def option_notes(self, given: Iterable[str]) -> list[str]:
        """Return notes on options without effect, and on a rate that is known to diverge."""
        notes, spec = super().option_notes(given), self.backbone_spec()
        if not isinstance(spec, AlexNet | VGG) or spec.batch_norm:
            return notes
        if self.optimizer in ("sgd", "nesterov") and self.peak_rate > PLAIN_RATE:
            notes.append(
                f"learning rate {self.peak_rate:g} is known to diverge for {spec.name} without "
                f"batch norm; {PLAIN_RATE:g} is usual"
            )
        return notes

    def learning_rate_at(self, epoch: float) -> float:
        """Return the learning rate after `epoch` epochs, which may be a fraction.

        With L the highest rate, w the warm-up, E all epochs, s = (epoch - w) / (E - w): L epoch / w
        during the warm-up, then L (1 + cos(pi s)) / 2 (cosine), L 0.1^(milestones passed) (step),
        or L (constant). With `rates`, the rate of the last epoch in it that has begun.
        """
        if epoch < self.warmup_epochs:
            return self.peak_rate * epoch / self.warmup_epochs
        if self.rates is not None:
            return self.rates[max(start for start in self.rates if start <= epoch)]
        share = (epoch - self.warmup_epochs) / max(1e-9, self.epochs - self.warmup_epochs)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        if self.schedule == "step":
            done = epoch / max(1, self.epochs)
            return self.learning_rate * 0.1 ** sum(done >= share for share in self.milestones)
        return self.learning_rate
