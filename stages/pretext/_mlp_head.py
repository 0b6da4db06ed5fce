"""The heads that several tasks put on a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import nn

if TYPE_CHECKING:
    from torch import nn as modules


def fully_connected(
    inputs: int, hidden: int, outputs: int, batch_norm: bool = True
) -> modules.Sequential:
    """Two hidden layers as AlexNet has them, then the outputs: (N, inputs) to (N, outputs); `hidden` 0: none."""
    steps: list[modules.Module] = []
    for _ in range(2 if hidden else 0):
        steps.append(nn.Linear(inputs, hidden, bias=not batch_norm))
        steps += [nn.BatchNorm1d(hidden), nn.ReLU()] if batch_norm else [nn.ReLU()]
        inputs = hidden
    return nn.Sequential(*steps, nn.Linear(inputs, outputs))
