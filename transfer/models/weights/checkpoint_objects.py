"""What a checkpoint of torch.save holds: tensors and plain values; nothing else is loaded.

An object of any other class becomes a placeholder with its data. Nothing of the file is imported
or called. A file that asks for what is known to run programs is refused; a call of any other
function that is not known to make plain data is remembered, for a note.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from transfer.models.weights.named_code import (
    BUILTINS,
    PLAIN_MODULES,
    Function,
    LeftOut,
    is_data,
    refuse_dangerous,
)
from transfer.models.weights.stored_tensor import StoredTensor
from transfer.utils.lazy_imports import torch
from transfer.utils.pickle_interpreter import (
    Name,
    PickleInterpreter,
    Placeholder,
    UnsafePickle,
    class_name,
)
from transfer.utils.pickled_arrays import PickledArray, array_name

if TYPE_CHECKING:
    from torch import Tensor

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
    "QInt8Storage": "int8",  # of quantized tensors, which are not read, but named
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
    "QUInt4x2Storage": "uint8",
    "QUInt2x4Storage": "uint8",
}


class TensorDict(dict[Any, Any]):
    """An ordered dict of the file, whose further attributes are not needed."""

    def set_state(self, state: Any) -> None:
        """Ignore attributes, such as the version numbers of torch's modules."""


@dataclass(frozen=True, eq=False)
class Storage:
    """The bytes behind tensors, read from the file when a tensor is needed."""

    dtype: str
    count: int  # values
    read: Callable[[], bytearray]


@dataclass(eq=False)
class CheckpointObjects:
    """Decides what stands for the names in a checkpoint, and remembers those it does not know.

    Args:
        load_storage: returns the storage of a persistent identity.
        load_nested: returns the object in the bytes of a checkpoint within the checkpoint, and
            what was left out of it.
    """

    load_storage: Callable[[Any], Any]
    load_nested: Callable[[bytes], tuple[Any, LeftOut]]
    foreign: dict[str, None] = field(default_factory=dict[str, None])  # classes not loaded
    called: dict[str, None] = field(default_factory=dict[str, None])  # functions not called

    @property
    def left_out(self) -> LeftOut:
        """What was not loaded so far."""
        classes = [name for name in self.foreign if name not in self.called]
        return LeftOut(classes, list(self.called))

    def run(self, data: bytes | IO[bytes]) -> Any:
        """Return what a pickle describes; UnsafePickle where it is damaged or dangerous."""
        try:
            return PickleInterpreter(self.find, self.load_storage).run(data)
        except (UnsafePickle, OSError):
            raise
        except UnicodeDecodeError as error:
            if error.encoding != "ascii":
                raise UnsafePickle("not a readable pickle (a text that is not UTF-8)") from error
            raise UnsafePickle(
                "has bytes as Python 2 wrote them in protocol 0, which are not read: load it with "
                "Python, and save it with `pickle.dump(..., protocol=2)`"
            ) from error
        except Exception as error:  # damaged operations pop from an empty stack, for example
            raise UnsafePickle(f"not a readable pickle ({type(error).__name__})") from error

    def find(self, text: str) -> Any:
        """Return what stands for a name of the pickle."""
        module, _, name = text.partition(" ")
        refuse_dangerous(module, name)
        if module.partition(".")[0] == "torch":
            if name in STORAGES:
                return Placeholder(f"torch.{name}", state=STORAGES[name])
            if module == "torch" and isinstance(_dtype(name), str):
                return Placeholder(f"torch.{name}", state=name)
        if (array := array_name(text)) is not None:
            return array
        if text == "torch.storage _load_from_bytes":
            return Name(self._nested)
        if text in MAKERS:
            return Name(MAKERS[text])
        # torch rebuilds quantized, sparse and distributed tensors, which are not read.
        special = "_rebuild" in name or "distributed" in module
        if special or module.partition(".")[0] not in PLAIN_MODULES:
            quantized = " (quantized weights are not read)" if name == "_rebuild_qtensor" else ""
            self.foreign[class_name(text) + quantized] = None
        if is_data(module, name):
            return Placeholder(class_name(text))
        return Function(class_name(text), called=self.called)

    def _nested(self, data: bytes) -> Any:
        content, left_out = self.load_nested(data)
        self.foreign.update(dict.fromkeys(left_out.classes))
        self.called.update(dict.fromkeys(left_out.calls))
        return content


def _dtype(name: str) -> str | None:
    return name if isinstance(getattr(torch, name, None), torch.dtype) else None


def tensor_of(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Any:
    """Return the tensor that torch would rebuild from a storage."""
    if not isinstance(storage, Storage):
        raise UnsafePickle("a tensor without its values")
    return _strided(storage, storage.dtype, offset, shape, stride)


def typed_tensor_of(
    storage: Any, offset: Any, shape: Any, stride: Any, _: Any, __: Any, kind: Any, *___: Any
) -> Any:
    """Return a tensor of a storage without a type; the arguments are torch's."""
    if not isinstance(storage, Storage) or not isinstance(kind, Placeholder):
        raise UnsafePickle("a tensor without its values")
    return _strided(storage, str(kind.state), offset, shape, stride)


def _strided(storage: Storage, dtype: str, offset: Any, shape: Any, stride: Any) -> StoredTensor:
    shape, stride = tuple(shape), tuple(stride)
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or any(type(value) is not int or value < 0 for value in numbers):
        raise UnsafePickle(f"a tensor of shape {shape}")
    item = getattr(torch, dtype).itemsize
    held = storage.count * getattr(torch, storage.dtype).itemsize // item
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if all(shape) and last >= held:
        raise UnsafePickle(f"a tensor of shape {shape} in {held} values")

    def read() -> Tensor:
        data = storage.read()
        if not all(shape):
            return torch.empty(shape, dtype=getattr(torch, dtype))
        values = torch.frombuffer(data, dtype=getattr(torch, dtype))
        return values.as_strided(shape, stride, offset).clone(memory_format=torch.contiguous_format)

    return StoredTensor(shape, dtype, read)


def array_tensor(array: PickledArray) -> StoredTensor | None:
    """Return a numpy array of numbers as a tensor; None for another one."""
    value = array.value
    if value is None or not isinstance(_dtype(value.dtype.name), str):
        return None
    native = value.astype(value.dtype.newbyteorder("="))
    return StoredTensor(value.shape, value.dtype.name, lambda: torch.from_numpy(native.copy()))


def _first(value: Any, *_: Any) -> Any:
    return value


def _from_type(function: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """Return the plain tensor of a subclass of torch.Tensor."""
    return function.make(*arguments) if isinstance(function, Name | Placeholder) else None


def _instance(kind: Any, *_: Any) -> Any:
    """Return what stands for an object of a class, without its constructor."""
    return kind.make()


def _mapping(*arguments: Any) -> TensorDict:
    """Return a dict; the factory of a defaultdict is left out."""
    (content,) = arguments[-1:] or ((),)
    return TensorDict(content if isinstance(content, dict | list | tuple) else ())


def _partial(function: Any, *_: Any) -> Any:
    """Return the function itself, whose call or change is then judged."""
    return function if isinstance(function, Placeholder) else Placeholder("functools.partial")


MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor": tensor_of,
    "torch._utils _rebuild_tensor_v2": tensor_of,
    "torch._utils _rebuild_tensor_v3": typed_tensor_of,
    "torch._utils _rebuild_parameter": _first,
    "torch._utils _rebuild_parameter_with_state": _first,
    "torch.nn.parameter Parameter": _first,
    "torch.nn.parameter Buffer": _first,
    "torch._tensor _rebuild_from_type_v2": _from_type,
    "collections OrderedDict": _mapping,
    "collections defaultdict": _mapping,
    "collections Counter": _mapping,
    **{f"{module} dict": _mapping for module in BUILTINS},
    **{f"{module} object": lambda *_: None for module in BUILTINS},
    **{f"{module} _reconstructor": _instance for module in ("copyreg", "copy_reg")},
    **{f"{module} __newobj__": _instance for module in ("copyreg", "copy_reg")},
    **{f"{module} list": lambda *items: list(*items) for module in BUILTINS},
    **{f"{module} set": lambda *items: list(*items) for module in BUILTINS},
    **{f"{module} frozenset": lambda *items: list(*items) for module in BUILTINS},
    **{f"{module} tuple": lambda *items: tuple(*items) for module in BUILTINS},
    "functools partial": _partial,
    "torch Size": lambda *sizes: tuple(*sizes),
}
