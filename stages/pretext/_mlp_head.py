"""The fully connected head of several pretext tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import nn

if TYPE_CHECKING:
    from torch import nn as modules


def fully_connected(
    inputs: int, hidden: int, outputs: int, batch_norm: bool = True
) -> modules.Sequential:
    """Return a head (N, inputs) -> (N, outputs) with two hidden layers, as in AlexNet.

    Args:
        inputs: values of a row of features.
        hidden: units of each hidden layer; 0: no hidden layers.
        outputs: values of a row of outputs.
        batch_norm: whether the hidden layers have batch norms.
    """
    steps: list[modules.Module] = []
    for _ in range(2 if hidden else 0):
        steps.append(nn.Linear(inputs, hidden, bias=not batch_norm))
        steps += [nn.BatchNorm1d(hidden), nn.ReLU()] if batch_norm else [nn.ReLU()]
        inputs = hidden
    return nn.Sequential(*steps, nn.Linear(inputs, outputs))
