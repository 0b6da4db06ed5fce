"""numpy's arrays in a pickle, as numpy writes them, without calling numpy's own functions."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from transfer.utils.lazy_imports import np
from transfer.utils.pickle_interpreter import Name, UnsafePickle

if TYPE_CHECKING:
    import numpy

NUMERIC = re.compile(r"[|<>=]?([fiu][1248]|b1|f16)")
CORES = ("numpy.core", "numpy._core")  # before and since numpy 2


class PickledType:
    """numpy's type of an array's values; its byte order comes with its state."""

    def __init__(self, code: Any, *_: Any):
        self.code, self.big_endian = code, False

    def set_state(self, state: Any) -> None:
        self.big_endian = isinstance(state, tuple) and len(state) > 1 and state[1] == ">"

    @property
    def numeric(self) -> bool:
        """Whether its values are plain numbers."""
        return isinstance(self.code, str) and bool(NUMERIC.fullmatch(self.code))

    def dtype(self) -> numpy.dtype:
        """Return the type in numpy; UnsafePickle for values that are not plain numbers."""
        if not self.numeric:
            raise UnsafePickle(f"an array of type {self.code!r} instead of numbers")
        kind = np.dtype(self.code)
        return kind.newbyteorder(">") if self.big_endian else kind


class PickledArray:
    """An array, before and after its content is set; `value` is None for other than numbers."""

    def __init__(self, *_: Any) -> None:
        self.value: numpy.ndarray | None = None
        self.code: Any = None  # of its type
        self.filled = False

    def set_state(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise UnsafePickle("an array without content")
        _, shape, kind, fortran, data = state
        self._fill(shape, kind, data, "F" if fortran else "C")

    @classmethod
    def from_buffer(cls, data: Any, kind: Any, shape: Any, order: Any) -> PickledArray:
        """Stand in for the function that numpy writes for arrays from protocol 5 on."""
        array = cls()
        array._fill(shape, kind, data, "F" if order == "F" else "C")
        return array

    def _fill(self, shape: Any, kind: Any, data: Any, order: Any) -> None:
        if not (isinstance(kind, PickledType) and isinstance(shape, tuple)):
            raise UnsafePickle("an array without content")
        self.code, self.filled = kind.code, True
        if isinstance(data, str):
            data = data.encode("latin-1")
        if not kind.numeric or not isinstance(data, bytes | bytearray):
            return  # objects or texts, which are not read
        dtype = kind.dtype()
        count = math.prod(shape)
        if count * dtype.itemsize != len(data):
            raise UnsafePickle(f"an array of shape {shape} in {len(data)} bytes")
        self.value = np.frombuffer(bytes(data), dtype=dtype).reshape(shape, order=order)


def _encode(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise UnsafePickle("bytes of a text in another encoding than latin-1")
    return text.encode("latin-1")


ARRAY_NAMES = {
    **{f"{core}.multiarray _reconstruct": PickledArray for core in CORES},
    **{f"{core}.numeric _frombuffer": PickledArray.from_buffer for core in CORES},
    "numpy ndarray": PickledArray,
    "numpy dtype": PickledType,
    "_codecs encode": _encode,
}


def array_name(text: str) -> Name | None:
    """Return what stands for a name that numpy writes for an array; None for another name."""
    return Name(ARRAY_NAMES[text]) if text in ARRAY_NAMES else None
