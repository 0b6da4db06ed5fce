"""Builds a network from its description, and computes the shapes of its layers."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from transfer.models.backbone import Backbone
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from transfer.models.network import Network


def build_network(spec: Backbone, seed: int) -> Network:
    """Build the network on the CPU, in training mode; equal seeds give the same bytes."""
    from transfer.models.network import Network  # imports torch

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would seed the GPUs too, whose state fork_rng does not restore here.
        torch.default_generator.manual_seed(seed)
        return Network(spec.make_layers(), spec=spec)


def outline_network(spec: Backbone) -> Network:
    """Build the network on the meta device: its tensors have shapes, but no values or memory.

    Networks of timm that compute with values while they are built get values.
    """
    from transfer.models.network import Network  # imports torch

    try:
        with torch.device("meta"):
            return Network(spec.make_layers(), spec=spec)
    except (NotImplementedError, RuntimeError):
        return build_network(spec, 0)


@lru_cache(maxsize=64)
def layer_shapes(spec: Backbone, size: int) -> dict[str, tuple[int, ...]]:
    """Return each layer's output shape for images of `size` px; ValueError if too small."""
    return build_network(spec, 0).shapes(size)
