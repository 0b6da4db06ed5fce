"""Heads between the target and what it learns to say; they are no part of the network that is kept."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from transfer.errors import InvalidOption, TransferError
from transfer.utils.lazy_imports import nn

if TYPE_CHECKING:
    from transfer.stage.base import PlannedStage
    from transfer.training.target_task import Target


def linear_or_mlp(kind: str, width: int, hidden: int, out: int, depth: int = 1) -> nn.Module:
    """(B, width) to (B, out): `linear`, or `mlp` with `depth` hidden layers and their batch norms."""
    if kind == "linear":
        return nn.Linear(width, out)
    widths = [width, *[hidden] * depth]
    layers = [
        layer
        for a, b in pairwise(widths)
        for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())
    ]
    return nn.Sequential(*layers, nn.Linear(hidden, out))


def check_parts(target: Target, planned: PlannedStage) -> None:
    """BadOption where `accumulate` leaves single images to an MLP, whose batch norms need two."""
    if told := _single(target, planned.images["images"].stage.count):
        raise InvalidOption("accumulation_steps", told)


def check_known(target: Target, known: int) -> None:
    """The same of the images that have features, which are counted once they are read."""
    if told := _single(target, known):
        raise TransferError(
            f"{known:,} image{'s have' if known > 1 else ' has'} features, and {told}"
        )


def _single(target: Target, count: int) -> str:
    batch = min(target.batch_size, count)
    if target.head != "mlp" or batch // target.accumulation_steps > 1:
        return ""
    parts = f"{target.accumulation_steps} part{'s' if target.accumulation_steps > 1 else ''}"
    return f"{parts} of a batch of {batch}: the MLP's batch norms need two images in each"
