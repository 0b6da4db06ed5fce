"""Reads files of trained weights: .safetensors, or what torch.save wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import InvalidOption, did_you_mean
from transfer.utils.lazy_imports import safetensors, torch

if TYPE_CHECKING:
    from torch import Tensor

DEPTH = 3  # levels of nested dictionaries in a file: `checkpoint.model.ema`


def read_weights(path: Path, entry: str | None = None) -> dict[str, Tensor]:
    """Return the named tensors in a file; ValueError states what is wrong with it.

    Only tensors and plain values are loaded. A file with other objects is refused.

    Args:
        path: a .safetensors file, or any other that torch.save wrote.
        entry: the part of the file that has the tensors, if there are other parts.
    """
    try:
        if _is_safetensors(path):
            content: Any = safetensors.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types, some of them the libraries' own
        raise ValueError(f"{path} {_problem(error)}") from error
    if entry is not None:
        parts = _parts(content)
        if entry not in parts:
            raise InvalidOption("entry", f"has no entry '{entry}'{did_you_mean(entry, parts)}")
        content = parts[entry]
    if not _is_state_dict(content):
        raise ValueError(
            f"{path} is not a plain state dict (names mapped to tensors)"
            f"{_entry_hint(content, entry)}"
        )
    bad = [str(name) for name, value in content.items() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(f"{path} has values that are not finite, in {', '.join(bad[:3])}")
    return {str(name): value for name, value in content.items()}


def _entry_hint(content: Any, entry: str | None) -> str:
    """Suggest the entries of a file that are state dicts."""
    names = [name for name, value in _parts(content).items() if _is_state_dict(value)]
    # Optimizers have tensors too, at deeper levels.
    names = [name for name in names if "." not in name] or names
    choices = ", ".join(f"{entry}.{name}" if entry else name for name in names)
    return f"; name one of its entries: {choices}" if names else ""


def _parts(content: Any, depth: int = DEPTH) -> dict[str, Any]:
    """Return the dictionaries in a file with those nested in them: `checkpoint.model`."""
    parts: dict[str, Any] = {}
    if not isinstance(content, dict) or not depth:
        return parts
    for name, value in content.items():
        if isinstance(value, dict):
            parts[str(name)] = value
            nested = _parts(value, depth - 1)
            parts |= {f"{name}.{inner}": part for inner, part in nested.items()}
    return parts


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(torch.is_tensor, value.values()))


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts like .safetensors: the length of a JSON header, then the header."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(1) == b"{" and length < path.stat().st_size


def _problem(error: Exception) -> str:
    """Describe why a file cannot be read."""
    text = str(error).strip()
    unsafe = re.search(r"GLOBAL (\S+)", text)
    if unsafe:
        return (
            f"has an object of {unsafe[1]}, which only running the file's own code could load; "
            "save only the state dict where the file was written, best as .safetensors"
        )
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    if "TorchScript" in text:
        return "is a TorchScript program; load it with torch.jit.load, and save its state_dict()"
    return (
        "is not a complete file of weights: neither .safetensors nor what torch.save writes "
        f"({type(error).__name__})"
    )
