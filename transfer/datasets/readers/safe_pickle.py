"""Plain data out of a pickle, without running it: what CIFAR's Python archives hold.

A pickle is a program, and the usual way to read one is to run it, which may import and call anything. Here its
operations are only looked at (`pickletools.genops` decodes them and does nothing else), and those few that build
numbers, texts, bytes, lists, tuples, dicts and numpy's arrays of bytes are followed by hand. Names of functions and
classes stay names: none is ever imported or called. The three that numpy writes for an array are known, and what they
would do is done with `numpy.frombuffer`. Every other name and every other operation is an error.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

MARK = object()
SCALARS = (int, float, bool, str, bytes, type(None))
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *(
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
    ),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING = {"PROTO", "FRAME", "STOP"}

ARRAY, DTYPE, ENCODE = "an array", "a dtype", "bytes of a text"
KNOWN_NAMES = {
    "numpy.core.multiarray _reconstruct": ARRAY,
    "numpy._core.multiarray _reconstruct": ARRAY,
    "numpy ndarray": "ndarray",
    "numpy dtype": DTYPE,
    "_codecs encode": ENCODE,
}


class UnsafePickle(ValueError):
    """A pickle that is damaged, or holds more than plain data."""


class _Array:
    """An array before and after its content is known."""

    value: numpy.ndarray | None = None

    def fill(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise UnsafePickle("an array without content")
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):
            data = data.encode("latin-1")
        if (
            not isinstance(dtype, _Dtype)
            or not isinstance(data, bytes)
            or not isinstance(shape, tuple)
        ):
            raise UnsafePickle("an array of anything but bytes")
        values = np.frombuffer(data, dtype=np.uint8)
        if values.size != _product(shape):
            raise UnsafePickle(f"an array of shape {shape} in {values.size} bytes")
        self.value = values.reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """numpy's type of unsigned bytes, the only one that is taken."""


def read_plain_pickle(data: bytes) -> dict[str, Any]:
    """The dict that the pickle holds, of numbers, texts (Python 2's byte strings as latin-1), bytes, flat lists of
    those, and uint8 arrays. Unreadable where it is damaged or holds anything else."""
    try:
        return _plain(_follow(data))
    except UnsafePickle:
        raise
    except Exception as error:  # damaged operations take from an empty stack, and the like
        raise UnsafePickle(
            f"not a readable pickle ({' '.join(str(error).split()) or type(error).__name__})"
        ) from error


def _follow(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for operation, argument, _ in pickletools.genops(data):
        name = operation.name
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            stack.append(MARK)
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(_popped(stack, TUPLES[name], keep=True))]
        elif name in ("TUPLE", "LIST"):
            items = _to_mark(stack)
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _to_mark(stack)
            _of(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            items = _popped(stack, 2) if name == "SETITEM" else _to_mark(stack)
            if name == "DICT":
                stack.append({})
            _of(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            asked = argument if name == "GLOBAL" else " ".join(_popped(stack, 2))
            if asked not in KNOWN_NAMES:
                raise UnsafePickle(f"it asks for '{asked}', which is no plain data")
            stack.append(_Name(KNOWN_NAMES[asked]))
        elif name == "REDUCE":
            called, arguments = _popped(stack, 2)
            stack.append(_make(called, arguments))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], _Array):
                stack[-1].fill(state)
            elif not isinstance(stack[-1], _Dtype):
                raise UnsafePickle("it sets the state of something that is no array")
        elif name not in NOTHING:
            raise UnsafePickle(f"its operation {name} is not for plain data")
    (result,) = stack
    return result


class _Name(str):
    """A known function or class: its name, and nothing that could be called."""


def _make(called: Any, arguments: Any) -> Any:
    """What calling a known name would give."""
    if not isinstance(called, _Name):
        raise UnsafePickle("it calls something that is no known name")
    if called == ARRAY:
        return _Array()
    if called == DTYPE:
        if arguments[0] not in ("u1", "|u1"):
            raise UnsafePickle(f"an array of type {arguments[0]!r} instead of bytes")
        return _Dtype()
    if called == ENCODE and arguments[1] == "latin1":
        return _of(str, arguments[0]).encode("latin-1")
    raise UnsafePickle(f"it calls {called}")


def _to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not MARK:
        items.append(item)
    return items[::-1]


def _popped(stack: list[Any], count: int, keep: bool = False) -> list[Any]:
    if len(stack) < count:
        raise UnsafePickle("its stack is empty")
    items = stack[-count:]
    if not keep:
        del stack[-count:]
    return items


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise UnsafePickle(f"a {kind.__name__} is wanted where there is none")
    return value


def _product(shape: tuple) -> int:
    result = 1
    for side in shape:
        result *= side
    return result


def _plain(value: Any) -> dict[str, Any]:
    """The values of a dict: arrays instead of what stood for them, and no containers within containers (a few bytes
    of pickle can stand for lists of lists that no memory holds)."""
    found = {}
    for key, one in _of(dict, value).items():
        if isinstance(one, _Array):
            one = one.value
            if one is None:
                raise UnsafePickle("an array without content")
        elif isinstance(one, (list, tuple)):
            if not all(type(item) in SCALARS for item in one):
                raise UnsafePickle("a list of anything but numbers and texts")
        elif type(one) not in SCALARS:
            raise UnsafePickle(f"something that is no plain data ({type(one).__name__})")
        found[key.decode("latin-1") if isinstance(key, bytes) else key] = one
    return found
