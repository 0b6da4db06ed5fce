"""A tensor in a file: its type and shape are known before its values are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that is read when it is needed."""

    shape: tuple[int, ...]
    dtype: str  # its name in torch: float32
    read: Callable[[], Tensor]

    def outline(self) -> Tensor:
        """Return a tensor of its type and shape on the meta device: without values."""
        return torch.empty(self.shape, dtype=getattr(torch, self.dtype), device="meta")
