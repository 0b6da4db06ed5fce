"""Heads between the target and what it learns to say; they are no part of the network that is kept."""

from __future__ import annotations

from transfer.lazy import nn


def linear_or_mlp(kind: str, width: int, hidden: int, out: int) -> nn.Module:
    """(B, width) to (B, out): `linear`, or `mlp` with a hidden layer and its batch norm."""
    if kind == "linear":
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))
