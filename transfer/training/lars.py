"""LARS (You, Gitman & Ginsburg, 2017): SGD whose rate each layer scales by how large its weights are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

TRUST = 0.001  # the paper's coefficient


class Lars(torch.optim.Optimizer):
    """SGD with momentum; a weight's step is `TRUST * |w| / |g + decay * w|` times what SGD's would be.

    Groups with `adapt` false (biases, norms) take plain SGD steps, as in SimCLR and BYOL.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float = 0.9):
        super().__init__(
            groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapt": True}
        )

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            steps = torch._foreach_add(
                [weight.grad for weight in weights], weights, alpha=group["weight_decay"]
            )
            if group["adapt"]:
                sizes, lengths = torch._foreach_norm(weights), torch._foreach_norm(steps)
                for step, size, length in zip(steps, sizes, lengths, strict=True):
                    # A weight or a gradient of nothing but zeros says nothing of the scale.
                    step.mul_(torch.where((size > 0) & (length > 0), TRUST * size / length, 1.0))
            for weight in weights:
                if "momentum_buffer" not in self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            momenta = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, steps)
            torch._foreach_add_(weights, momenta, alpha=-group["lr"])
