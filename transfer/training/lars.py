# torch has no public operations on lists of tensors:
# pyright: reportPrivateImportUsage=false
"""LARS (You, Gitman & Ginsburg, 2017): SGD whose learning rate adapts to each layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

TRUST = 0.001  # the paper's coefficient


class Lars(torch.optim.Optimizer):
    """SGD with momentum whose steps are scaled by the length of the weights.

    With weights w, gradient g, decay b and momentum m:

        d = g + b w,   s = TRUST |w| / |d|,   v <- m v + s d,   w <- w - lr v

    Groups with `adapt` false (biases, norms) have s = 1, as in SimCLR and BYOL.

    Args:
        groups: parameter groups, with `weight_decay` and `adapt`.
        lr: learning rate.
        momentum: m.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float = 0.9):
        super().__init__(
            groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapt": True}
        )

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights from their gradients."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            steps = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
            if group["adapt"]:
                sizes, lengths = torch._foreach_norm(weights), torch._foreach_norm(steps)
                for step, size, length in zip(steps, sizes, lengths, strict=True):
                    # Zero weights or gradients have no scale: their step is that of SGD.
                    step.mul_(torch.where((size > 0) & (length > 0), TRUST * size / length, 1.0))
            for weight in weights:
                if "momentum_buffer" not in self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            momenta = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, steps)
            torch._foreach_add_(weights, momenta, alpha=-group["lr"])
