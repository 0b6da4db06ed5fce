"""Checkpoints without pickle: tensors in safetensors, everything else in its JSON header."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.utils.lazy_imports import safetensors, torch

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def save_checkpoint(
    path: Path, network: nn.Module, optimizer: Optimizer, facts: dict[str, Any]
) -> None:
    """Write the state of both, and `facts` (JSON), in one step: a kill leaves the old file or the new one."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": value for name, value in state.items() if value is not None
        }
    tensors = {
        name: torch.as_tensor(value).detach().cpu().contiguous() for name, value in tensors.items()
    }
    draft = path.with_suffix(".draft")
    safetensors.save_file(tensors, draft, metadata={"facts": json.dumps(facts)})
    with open(draft, "rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def load_checkpoint(path: Path, network: nn.Module, optimizer: Optimizer) -> dict[str, Any] | None:
    """Put the saved state into both and return the facts; None where there is no whole checkpoint of this network."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, entry = name.split(".", 2)
                state.setdefault(int(index), {})[entry] = tensor
        weights = {
            name.removeprefix("network."): tensor
            for name, tensor in tensors.items()
            if name.startswith("network.")
        }
        network.load_state_dict(weights, strict=True)
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )
        _lay_out_like_weights(optimizer)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError):
        return None  # a checkpoint is a convenience: what cannot be read is trained again
    return facts


def _lay_out_like_weights(optimizer: Optimizer) -> None:
    """Give momenta the memory layout of their weights: a fused step goes through both by address, not by index."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(value)
