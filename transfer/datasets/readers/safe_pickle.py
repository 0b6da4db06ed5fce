"""Plain data from a pickle, without running it; CIFAR's Python archives hold such data.

A pickle is a program: the usual way to read it may import and call anything. Here
`pickletools.genops` only decodes its operations. The few that build numbers, texts, bytes, lists,
tuples, dicts and numpy's arrays of bytes are followed by hand. Names of functions and classes
remain names: none is imported or called. The names that numpy writes for an array are known, and
`numpy.frombuffer` does their work. Every other name and every other operation is an error.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from transfer.datasets.readers.read_errors import error_text
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

MARK = object()
SCALARS = (int, float, bool, str, bytes, type(None))
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = {"PROTO", "FRAME", "STOP"}

ARRAY, DTYPE, ENCODE = "an array", "a dtype", "bytes of a text"
KNOWN_NAMES = {
    "numpy.core.multiarray _reconstruct": ARRAY,
    "numpy._core.multiarray _reconstruct": ARRAY,
    "numpy ndarray": "ndarray",
    "numpy dtype": DTYPE,
    "_codecs encode": ENCODE,
}

T = TypeVar("T")


class UnsafePickle(ValueError):
    """A pickle that is damaged or holds more than plain data."""


def read_plain_pickle(data: bytes) -> dict[str, Any]:
    """Return the dict that a pickle holds; UnsafePickle where it is damaged or holds other data.

    Its values may be numbers, texts (Python 2's byte strings as latin-1), bytes, flat lists of
    those, and uint8 arrays.
    """
    try:
        return _plain_dict(_Interpreter().run(data))
    except UnsafePickle:
        raise
    except Exception as error:  # damaged operations pop from an empty stack, for example
        raise UnsafePickle(f"not a readable pickle ({error_text(error)})") from error


class _Name(str):
    """A known function or class: its name, which cannot be called."""


class _Dtype:
    """numpy's type of unsigned bytes, the only one that is accepted."""


class _Array:
    """An array, before and after its content is set."""

    value: numpy.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise UnsafePickle("an array without content")
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):
            data = data.encode("latin-1")
        valid = isinstance(dtype, _Dtype) and isinstance(data, bytes) and isinstance(shape, tuple)
        if not valid:
            raise UnsafePickle("an array of anything but bytes")
        values = np.frombuffer(data, dtype=np.uint8)
        if values.size != math.prod(shape):
            raise UnsafePickle(f"an array of shape {shape} in {values.size} bytes")
        self.value = values.reshape(shape, order="F" if fortran else "C")


class _Interpreter:
    """Follows the operations of a pickle that build plain data."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[Any, Any] = {}

    def run(self, data: bytes) -> Any:
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
        else:
            return False
        return True

    def _build_container(self, name: str) -> bool:
        stack = self._stack
        if name in TUPLES:
            stack.append(tuple(self._pop(TUPLES[name])))
        elif name in ("TUPLE", "LIST"):
            items = self._pop_to_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._pop_to_mark()
            _require(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            if name == "DICT":
                stack.append({})
            _require(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
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
            if requested not in KNOWN_NAMES:
                raise UnsafePickle(f"it asks for '{requested}', which is not plain data")
            self._stack.append(_Name(KNOWN_NAMES[requested]))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            self._stack.append(_call(function, arguments))
        elif name == "BUILD":
            state = self._stack.pop()
            target = self._stack[-1]
            if isinstance(target, _Array):
                target.set_state(state)
            elif not isinstance(target, _Dtype):
                raise UnsafePickle("it sets the state of something that is not an array")
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


def _call(function: Any, arguments: Any) -> Any:
    """Return what calling a known name would return."""
    if not isinstance(function, _Name):
        raise UnsafePickle("it calls something that is not a known name")
    if function == ARRAY:
        return _Array()
    if function == DTYPE:
        if arguments[0] not in ("u1", "|u1"):
            raise UnsafePickle(f"an array of type {arguments[0]!r} instead of bytes")
        return _Dtype()
    if function == ENCODE and arguments[1] == "latin1":
        return _require(str, arguments[0]).encode("latin-1")
    raise UnsafePickle(f"it calls {function}")


def _require(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise UnsafePickle(f"a {kind.__name__} is required")
    return value


def _plain_dict(value: Any) -> dict[str, Any]:
    """Return a dict with its arrays and without containers in containers.

    A few bytes of pickle can describe lists of lists that no memory holds.
    """
    plain = {}
    for key, item in _require(dict, value).items():
        name = key.decode("latin-1") if isinstance(key, bytes) else key
        if isinstance(item, _Array):
            if item.value is None:
                raise UnsafePickle("an array without content")
            plain[name] = item.value
        elif isinstance(item, (list, tuple)):
            if not all(type(member) in SCALARS for member in item):
                raise UnsafePickle("a list of anything but numbers and texts")
            plain[name] = item
        elif type(item) in SCALARS:
            plain[name] = item
        else:
            raise UnsafePickle(f"something that is not plain data ({type(item).__name__})")
    return plain
