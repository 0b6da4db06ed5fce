"""Reads files of trained weights: .safetensors, .npz, or what torch.save or pickle wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.models.weights.checkpoint_files import read_checkpoint, read_pickles
from transfer.models.weights.contents import named_parts
from transfer.models.weights.kinds import AGAIN, weight_kind, wrong_kind
from transfer.models.weights.named_code import LeftOut
from transfer.models.weights.stored_tensor import StoredTensor
from transfer.utils.lazy_imports import np, torch
from transfer.utils.pickle_interpreter import UnsafePickle

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


@dataclass(frozen=True)
class WeightFile:
    """The tensors in a file by name, in nested dicts, and what was not loaded."""

    content: dict[str, Any]
    left_out: LeftOut


def read_weight_file(path: Path) -> WeightFile:
    """Read the names, types and shapes in a file; ValueError states what is wrong with it.

    Values are read later. Only tensors are: nothing in the file is run.
    """
    readers = {
        "safetensors": _read_safetensors,
        "pickle": read_pickles,
        "checkpoint": read_checkpoint,
        "arrays": _read_arrays,
    }
    try:
        kind = weight_kind(path)
        problem = "" if kind in readers else wrong_kind(path, kind)
        content, left_out = ({}, LeftOut()) if problem else readers[kind](path)
        parts = named_parts(content)
    except Exception as error:  # the libraries have types of their own
        raise ValueError(f"{path} {_problem(error)}") from error
    if problem:
        raise ValueError(f"{path} {problem}")
    return WeightFile(parts, left_out)


def read_tensors(tensors: dict[str, StoredTensor], path: Path) -> dict[str, Tensor]:
    """Read the values of tensors; ValueError where they are damaged or not finite.

    Args:
        tensors: descriptions of tensors in the file.
        path: the file, for messages.
    """
    try:
        values = {name: stored.read() for name, stored in tensors.items()}
    except Exception as error:
        raise ValueError(f"{path} {_problem(error)}") from error
    bad = [name for name, value in values.items() if not _is_finite(value)]
    if bad:
        raise ValueError(f"{path} has values that are not finite, in {', '.join(bad[:3])}")
    return values


def _problem(error: Exception) -> str:
    """Describe why a file cannot be read."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnsafePickle) and reason.startswith(
        ("asks for", "has values", "has bytes")
    ):
        return reason
    if isinstance(error, UnsafePickle) and reason.startswith("is "):
        return f"{reason}; {AGAIN}"
    return f"is damaged or cut short ({reason}); {AGAIN}"


def _read_safetensors(path: Path) -> tuple[dict[str, StoredTensor], LeftOut]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: _safetensor(path, name, file.get_slice(name)) for name in names}, LeftOut()


def _safetensor(path: Path, name: str, part: Any) -> StoredTensor:
    def read() -> Tensor:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    dtype = SAFETENSORS_TYPES.get(part.get_dtype(), "float32")
    return StoredTensor(tuple(part.get_shape()), dtype, read)


def _read_arrays(path: Path) -> tuple[dict[str, StoredTensor], LeftOut]:
    """Describe the arrays of an .npz file, which are small enough to be read at once."""
    tensors: dict[str, StoredTensor] = {}
    others: list[str] = []
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                value = arrays[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                kind = "object"  # a pickle, which numpy then refuses
            else:
                kind = value.dtype.name
            if isinstance(getattr(torch, kind, None), torch.dtype):
                tensors[name] = _array(value.astype(value.dtype.newbyteorder("="), copy=False))
            else:
                others.append(f"numpy.ndarray (`{name}`, of type {kind} instead of numbers)")
    return tensors, LeftOut(others)


def _array(value: Any) -> StoredTensor:
    tensor = torch.from_numpy(value)
    return StoredTensor(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.clone)


def _is_finite(value: Tensor) -> bool:
    small = value.is_floating_point() and value.element_size() == 1  # float8 has no test
    return bool(torch.isfinite(value.float() if small else value).all())
