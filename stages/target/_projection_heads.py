"""Heads between the target and what it learns; they are not part of the exported network."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from transfer.errors import InvalidOption, TransferError
from transfer.utils.formatting import plural
from transfer.utils.lazy_imports import nn

if TYPE_CHECKING:
    from transfer.stage.base import PlannedStage


class StageWithHead(Protocol):
    """The options of a stage that decide how many images the batch norms of its head see."""

    @property
    def batch_size(self) -> int: ...

    @property
    def accumulation_steps(self) -> int: ...

    @property
    def head(self) -> str: ...


def linear_or_mlp(kind: str, width: int, hidden: int, out: int, depth: int = 1) -> nn.Module:
    """Make a head from (B, width) to (B, out).

    Args:
        kind: `linear`, or `mlp`, whose hidden layers have batch norms and ReLUs.
        width: values of the input.
        hidden: width of the hidden layers.
        out: values of the output.
        depth: number of hidden layers.
    """
    if kind == "linear":
        return nn.Linear(width, out)
    layers: list[nn.Module] = []
    for before, after in pairwise([width, *[hidden] * depth]):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, out))


def check_batch_parts(stage: StageWithHead, planned: PlannedStage[Any]) -> None:
    """Raise InvalidOption if `accumulation_steps` leaves single images to an MLP's batch norms."""
    if problem := _single_image(stage, planned.images["images"].stage.count):
        raise InvalidOption("accumulation_steps", problem)


def check_images_with_features(stage: StageWithHead, count: int) -> None:
    """Repeat `check_batch_parts` for the images that have features, counted once they are read."""
    if problem := _single_image(stage, count):
        have = "has" if count == 1 else "have"
        raise TransferError(f"only {plural(count, 'image')} {have} features: {problem}")


def _single_image(stage: StageWithHead, count: int) -> str:
    """Describe the problem of a batch whose parts have one image; empty where there is none."""
    batch = min(stage.batch_size, count)
    if stage.head != "mlp" or batch // stage.accumulation_steps > 1:
        return ""
    parts = plural(stage.accumulation_steps, "part")
    return f"{parts} of a batch of {batch}: the batch norms of `head: mlp` need two images in each"
