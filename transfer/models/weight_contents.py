"""The parts of a file of weights: dicts of tensors in dicts, lists and modules, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transfer.models.checkpoint_objects import array_tensor
from transfer.models.stored_tensor import StoredTensor
from transfer.utils.pickle_interpreter import Placeholder
from transfer.utils.pickled_arrays import PickledArray

DEPTH = 8  # levels of nested dicts in a file: `classy_state_dict.base_model.model.trunk`


def state_dicts(
    content: dict[str, Any], depth: int = DEPTH
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each dict of a file that holds tensors, with its entry: "" or `checkpoint.model`."""
    tensors = {name: value for name, value in content.items() if isinstance(value, StoredTensor)}
    if tensors:
        yield "", tensors
    for name, value in content.items() if depth else ():
        if isinstance(value, dict):
            for inner, part in state_dicts(value, depth - 1):
                yield ".".join(filter(None, [name, inner])), part


def entry_of(content: dict[str, Any], entry: str) -> dict[str, Any] | None:
    """Return the dict of an entry such as `checkpoint.model`; None where there is none."""
    if not entry:
        return content
    for name, value in content.items():
        if isinstance(value, dict) and (entry == name or entry.startswith(f"{name}.")):
            inner = entry_of(value, entry[len(name) + 1 :])
            if inner is not None:
                return inner
    return None


def named_parts(value: Any, depth: int = DEPTH) -> dict[str, Any]:
    """Return the tensors of nested dicts, lists and modules by name; other values are left out."""
    parts: dict[str, Any] = {}
    for name, item in _children(value):
        if isinstance(item, PickledArray):
            item = array_tensor(item)
        if isinstance(item, StoredTensor):
            parts[name] = item
        elif depth and (isinstance(item, dict | list | tuple | Placeholder)):
            inner = _module_tensors(item) if _is_module(item) else named_parts(item, depth - 1)
            if inner:
                parts[name] = inner
    return _module_tensors(value) if _is_module(value) else parts


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Placeholder):
        value = value.items or value.state
    if isinstance(value, dict):
        yield from ((_text(name), item) for name, item in value.items())
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        yield from ((str(number), item) for number, item in enumerate(value))


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _is_module(value: Any) -> bool:
    """Whether an object has the attributes of torch's modules."""
    state = value.state if isinstance(value, Placeholder) else None
    return isinstance(state, dict) and {"_parameters", "_modules"} <= state.keys()


def _module_tensors(module: Any, prefix: str = "", depth: int = 50) -> dict[str, StoredTensor]:
    """Return the tensors of a whole module that was saved, by the names of its state dict."""
    tensors: dict[str, StoredTensor] = {}
    transient = module.state.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        tensors |= {
            f"{prefix}{name}": value
            for name, value in (module.state.get(group) or {}).items()
            if isinstance(value, StoredTensor) and name not in transient
        }
    for name, inner in module.state["_modules"].items() if depth else ():
        if _is_module(inner):
            tensors |= _module_tensors(inner, f"{prefix}{name}.", depth - 1)
    return tensors
