"""Checkpoints without pickle: tensors in safetensors, and other facts in its JSON header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.utils.files import write_atomic
from transfer.utils.lazy_imports import safetensors, torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


def save_checkpoint(
    path: Path, network: nn.Module, optimizer: Optimizer, facts: dict[str, Any]
) -> None:
    """Write the state in one step: after a kill, the old file or the new one is there in full.

    Args:
        path: the file.
        network: its parameters and buffers are saved.
        optimizer: its momenta are saved.
        facts: JSON values, such as the step.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if value is not None:
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"facts": json.dumps(facts)}
    write_atomic(
        path, lambda draft: safetensors.save_file(tensors, draft, metadata=metadata), durable=True
    )


def load_checkpoint(path: Path, network: nn.Module, optimizer: Optimizer) -> dict[str, Any] | None:
    """Load the saved state into both. Return the facts; None without a valid checkpoint.

    Args:
        path: the file.
        network: the network that was saved.
        optimizer: its optimizer.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state: dict[int, dict[str, Any]] = {}
        weights = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, entry = name.split(".", 2)
                state.setdefault(int(index), {})[entry] = tensor
            elif name.startswith("network."):
                weights[name.removeprefix("network.")] = tensor
        # Both are compared first: `load_state_dict` copies what fits before it refuses the rest,
        # and the training that starts again must start from its own weights.
        if _shapes(weights) != _shapes(network.state_dict()) or not _fits(state, optimizer):
            return None
        network.load_state_dict(weights, strict=True)
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )
        _match_memory_formats(optimizer)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError):
        return None  # without a readable checkpoint, training starts again
    return facts


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _fits(state: dict[int, dict[str, Any]], optimizer: Optimizer) -> bool:
    """Whether the saved momenta belong to the optimizer's weights, in number and shape."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return all(
        index < len(weights) and value.shape in ((), weights[index].shape)
        for index, entries in state.items()
        for value in entries.values()
    )


def _match_memory_formats(optimizer: Optimizer) -> None:
    """Give momenta the memory layout of their weights: fused steps go by address, not by index."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(value)
