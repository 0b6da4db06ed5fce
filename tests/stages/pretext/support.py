"""Helpers of the tests of the pretext tasks, typed so that a test may pass what a stage accepts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, TypeVar

from torch import Tensor

from transfer.stage.base import Stage

StageT = TypeVar("StageT", bound=Stage)


def make_stage(kind: type[StageT], **options: Any) -> StageT:
    """Return a stage with options as a pipeline file has them, such as `backbone="conv4"`."""
    return kind(**options)


def namespace(**attributes: Any) -> Any:
    """Return an object with these attributes, in place of a planned stage or an image pack."""
    return SimpleNamespace(**attributes)


def gradient(tensor: Tensor) -> Tensor:
    """Return the gradient of a tensor that has one."""
    assert tensor.grad is not None
    return tensor.grad
