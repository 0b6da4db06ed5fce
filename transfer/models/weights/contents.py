"""The parts of a file of weights: dicts of tensors in dicts, lists and modules, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from transfer.models.weights.checkpoint_objects import array_tensor
from transfer.models.weights.stored_tensor import StoredTensor
from transfer.utils.pickle_interpreter import Placeholder, UnsafePickle
from transfer.utils.pickled_arrays import PickledArray

MODULE_DEPTH = 50  # levels of modules
MOST_VALUES = 500_000
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


def named_parts(value: Any) -> dict[str, Any]:
    """Return the tensors of nested dicts, lists and modules by name; other values are left out.

    UnsafePickle for more values than any checkpoint has: a few bytes of pickle can describe dicts
    of dicts that no memory holds.
    """
    return _Walk().parts(value, DEPTH)


class _Walk:
    """Goes through the values of a file, and counts them."""

    def __init__(self) -> None:
        self._visits = 0

    def parts(self, value: Any, depth: int) -> dict[str, Any]:
        if _is_module(value):
            return self._module_tensors(value, "", MODULE_DEPTH)
        parts: dict[str, Any] = {}
        for name, item in self._counted(_children(value)):
            if isinstance(item, PickledArray):
                item = array_tensor(item)
            if isinstance(item, StoredTensor):
                parts[name] = item
            elif depth and isinstance(item, dict | list | tuple | Placeholder):
                inner = self.parts(item, depth - 1)
                if inner:
                    parts[name] = inner
        return parts

    def _module_tensors(self, module: Any, prefix: str, depth: int) -> dict[str, StoredTensor]:
        """Return the tensors of a whole module that was saved, by the names of its state dict."""
        tensors: dict[str, StoredTensor] = {}
        transient = module.state.get("_non_persistent_buffers_set") or ()
        for group in ("_parameters", "_buffers"):
            for name, value in self._counted((module.state.get(group) or {}).items()):
                if isinstance(value, StoredTensor) and name not in transient:
                    tensors[f"{prefix}{name}"] = value
        for name, inner in self._counted(module.state["_modules"].items()):
            if depth and _is_module(inner):
                tensors |= self._module_tensors(inner, f"{prefix}{name}.", depth - 1)
        return tensors

    def _counted(self, items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        for item in items:
            self._visits += 1
            if self._visits > MOST_VALUES:
                raise UnsafePickle(f"has values nested in one another, more than {MOST_VALUES:,}")
            yield item


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Placeholder):
        value = value.items or value.state
    if isinstance(value, dict):
        yield from ((_text(name), item) for name, item in value.items() if _is_name(name))
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        yield from ((str(number), item) for number, item in enumerate(value))


def _is_name(name: Any) -> bool:
    return isinstance(name, str | bytes | int)


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _is_module(value: Any) -> bool:
    """Whether an object has the attributes of torch's modules."""
    state = value.state if isinstance(value, Placeholder) else None
    return isinstance(state, dict) and {"_parameters", "_modules"} <= state.keys()
