"""Plain data from a pickle, without running it; CIFAR's Python archives hold such data.

Only numbers, texts, bytes, lists, tuples, dicts and numpy's arrays of bytes are taken. Every other
name and every other operation is an error (`transfer/utils/pickle_interpreter.py`).
"""

from __future__ import annotations

from typing import Any

from transfer.datasets.readers.read_errors import error_text
from transfer.utils.pickle_interpreter import PickleInterpreter, UnsafePickle
from transfer.utils.pickled_arrays import PickledArray, array_name

SCALARS = (int, float, bool, str, bytes, type(None))


def read_plain_pickle(data: bytes) -> dict[str, Any]:
    """Return the dict that a pickle holds; UnsafePickle where it is damaged or holds other data.

    Its values may be numbers, texts (Python 2's byte strings as latin-1), bytes, flat lists of
    those, and uint8 arrays.
    """
    try:
        return _plain_dict(PickleInterpreter(_find).run(data))
    except UnsafePickle:
        raise
    except Exception as error:  # damaged operations pop from an empty stack, for example
        raise UnsafePickle(f"not a readable pickle ({error_text(error)})") from error


def _find(requested: str) -> Any:
    name = array_name(requested)
    if name is None:
        raise UnsafePickle(f"it asks for '{requested}', which is not plain data")
    return name


def _plain_dict(value: Any) -> dict[str, Any]:
    """Return a dict with its arrays and without containers in containers.

    A few bytes of pickle can describe lists of lists that no memory holds.
    """
    if type(value) is not dict:
        raise UnsafePickle("a dict is required")
    plain = {}
    for key, item in value.items():
        name = key.decode("latin-1") if isinstance(key, bytes) else key
        if isinstance(item, PickledArray):
            plain[name] = _byte_array(item)
        elif isinstance(item, (list, tuple)):
            if not all(type(member) in SCALARS for member in item):
                raise UnsafePickle("a list of anything but numbers and texts")
            plain[name] = item
        elif type(item) in SCALARS:
            plain[name] = item
        else:
            raise UnsafePickle(f"something that is not plain data ({type(item).__name__})")
    return plain


def _byte_array(array: PickledArray) -> Any:
    if not array.filled:
        raise UnsafePickle("an array without content")
    if array.value is None or array.value.dtype != "uint8":
        raise UnsafePickle(f"an array of type {array.code!r} instead of bytes")
    return array.value
