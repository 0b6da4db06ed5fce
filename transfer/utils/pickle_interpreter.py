"""Follows a pickle without running it.

A pickle is a program: the usual way to read it may import and call anything. Here
`pickletools.genops` only decodes its operations, and those that build data are followed by hand.
Functions and classes remain names: none is imported or called. The caller decides what stands for
a name, and every operation that is not for data is an error.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

MARK = object()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = {"PROTO", "FRAME", "STOP", "READONLY_BUFFER"}


class UnsafePickle(ValueError):
    """A pickle that is damaged or holds more than plain data."""


@dataclass(eq=False)
class Name:
    """A function or class of a pickle, which is not imported; `make` stands in for its call."""

    make: Callable[..., Any]


@dataclass(eq=False)
class Placeholder:
    """An object that a pickle describes: its class by name, and its data. It can do nothing."""

    name: str
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict[Any, Any])
    members: list[Any] = field(default_factory=list[Any])

    def set_state(self, state: Any) -> None:
        self.state = state

    def make(self, *_: Any) -> Placeholder:
        """Return what stands for a call of this object."""
        return Placeholder(self.name)


class PickleInterpreter:
    """Follows the operations of one pickle.

    Args:
        find: returns what stands for a name, `module name`: a `Name` if it may be called.
        load_persistent: returns what stands for data that lie outside of the pickle; None: such
            references are refused.
    """

    def __init__(
        self,
        find: Callable[[str], Any],
        load_persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self._find, self._load_persistent = find, load_persistent
        self._stack: list[Any] = []
        self._memo: dict[Any, Any] = {}

    def run(self, data: bytes | IO[bytes]) -> Any:
        """Return the object that a pickle describes; a file is read up to the pickle's end."""
        for operation, argument, _ in pickletools.genops(data):
            name = operation.name
            if name in IGNORED:
                continue
            followed = (
                self._push_value(name, argument)
                or self._build_container(name)
                or self._use_memo(name, argument)
                or self._build_object(name, argument)
            )
            if not followed:
                raise UnsafePickle(f"its operation {name} is not for plain data")
        (result,) = self._stack
        return result

    def _push_value(self, name: str, argument: Any) -> bool:
        if name in VALUES:
            self._stack.append(argument)
        elif name in CONSTANTS:
            self._stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self._stack.append(EMPTY[name]())
        elif name == "MARK":
            self._stack.append(MARK)
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        elif name == "POP":
            self._stack.pop()
        elif name == "POP_MARK":
            self._pop_to_mark()
        else:
            return False
        return True

    def _build_container(self, name: str) -> bool:
        stack = self._stack
        if name in TUPLES:
            stack.append(tuple(self._pop(TUPLES[name])))
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            items = self._pop_to_mark()
            if name == "FROZENSET":
                _check_keys(items)
            made = {"TUPLE": tuple, "FROZENSET": frozenset}.get(name, list)(items)
            stack.append(made)
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._pop_to_mark()
            _members(stack[-1]).extend(items)
        elif name == "ADDITEMS":
            items = self._pop_to_mark()
            if not isinstance(stack[-1], set):
                raise UnsafePickle("a set is required")
            _check_keys(items)
            stack[-1].update(items)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            if name == "DICT":
                stack.append({})
            _check_keys(items[::2])
            _items(stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        else:
            return False
        return True

    def _use_memo(self, name: str, argument: Any) -> bool:
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        else:
            return False
        return True

    def _build_object(self, name: str, argument: Any) -> bool:
        if name in ("GLOBAL", "STACK_GLOBAL"):
            requested = argument if name == "GLOBAL" else " ".join(self._pop(2))
            self._stack.append(self._find(requested))
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = self._pop(2)
            self._stack.append(_call(function, arguments))
        elif name == "NEWOBJ_EX":
            function, arguments, _ = self._pop(3)
            self._stack.append(_call(function, arguments))
        elif name in ("OBJ", "INST"):
            items = self._pop_to_mark()
            function = self._find(argument) if name == "INST" else items.pop(0)
            self._stack.append(_call(function, tuple(items)))
        elif name == "BUILD":
            state = self._stack.pop()
            target = self._stack[-1]
            if not hasattr(target, "set_state"):
                raise UnsafePickle("it sets the state of something that is not an array")
            target.set_state(state)
        elif name in ("PERSID", "BINPERSID") and self._load_persistent is not None:
            identity = argument if name == "PERSID" else self._stack.pop()
            self._stack.append(self._load_persistent(identity))
        else:
            return False
        return True

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise UnsafePickle("its stack is empty")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]


def _check_keys(keys: list[Any], depth: int = 3) -> None:
    """Refuse keys of tuples in tuples: to hash some of a few bytes takes forever."""
    for key in keys:
        if isinstance(key, tuple | frozenset):
            if not depth:
                raise UnsafePickle("a key of tuples in tuples")
            _check_keys(list(key), depth - 1)


def _call(function: Any, arguments: Any) -> Any:
    """Return what stands for a call; nothing of the pickle is called."""
    if not isinstance(function, Name | Placeholder):
        raise UnsafePickle("it calls something that is not a known name")
    return function.make(*arguments)


def _items(target: Any) -> dict[Any, Any]:
    if isinstance(target, Placeholder):
        return target.items
    if not isinstance(target, dict):
        raise UnsafePickle("a dict is required")
    return target


def _members(target: Any) -> list[Any]:
    if isinstance(target, Placeholder):
        return target.members
    if not isinstance(target, list):
        raise UnsafePickle("a list is required")
    return target


def class_name(text: str) -> str:
    """Return the usual spelling of a name: `os.system` for `os system`."""
    module, _, name = text.partition(" ")
    return name if module in ("builtins", "__builtin__") else f"{module}.{name}"
