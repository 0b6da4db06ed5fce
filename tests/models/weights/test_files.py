"""Files of weights: objects beside the tensors, kinds of files, damage; through a pipeline file."""

from __future__ import annotations

import argparse
import builtins
import collections
import datetime
import enum
import functools
import gzip
import io
import json
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from tests.conftest import Said
from tests.models.weights.test_dialects import assert_equal, drawn, loaded
from transfer.models import backbone
from transfer.models.weights.assignment import WeightOptions
from transfer.models.weights.contents import state_dicts
from transfer.models.weights.files import read_tensors, read_weight_file
from transfer.models.weights.loading import check_weights

PIPELINE = """
data: {card: drawings, limit: 8}
stages:
  model: {uses: pretext/pretrained, backbone: conv4, weights: w.pth, size: 32}
"""


class Color(enum.Enum):
    RED = 1


class AttributeDict(dict[str, Any]):
    """As Lightning keeps hyperparameters."""


class Settings:
    def __init__(self) -> None:
        self.depth = {"a": 1}


class Record(tuple[int, ...]):
    __slots__ = ()


def conv4() -> dict[str, torch.Tensor]:
    return drawn("conv4", 0)


OBJECTS: dict[str, Callable[[], Any]] = {
    "argparse.Namespace": lambda: argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("/x")),
    "numpy scalar": lambda: np.float64(91.5),
    "numpy array": lambda: np.arange(6).reshape(2, 3),
    "numpy array of texts": lambda: np.array(["a", "b"]),
    "numpy array of objects": lambda: np.array([{}, None], dtype=object),
    "numpy type": lambda: np.dtype("float32"),
    "numpy random state": lambda: np.random.RandomState(0).get_state(),
    "defaultdict": lambda: collections.defaultdict(list, {"loss": [1.0]}),
    "defaultdict of lambdas": lambda: collections.defaultdict(dict, {"a": {}}),
    "Counter": lambda: collections.Counter("aab"),
    "deque": lambda: collections.deque([1, 2], maxlen=3),
    "OrderedDict": lambda: collections.OrderedDict(a=1),
    "namespace": lambda: types.SimpleNamespace(a=1),
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "date": lambda: (datetime.datetime(2026, 1, 1), datetime.timedelta(1), datetime.timezone.utc),
    "enum": lambda: Color.RED,
    "Lightning's dict": lambda: AttributeDict(lr=0.1),
    "dict with tensors": lambda: AttributeDict(step=torch.ones(1)),
    "own class": Settings,
    "own tuple": lambda: Record((1, 2)),
    "class itself": lambda: Settings,
    "partial": lambda: functools.partial(int, base=2),
    "function": lambda: json.dumps,
    "built-in function": lambda: max,
    "torch.device": lambda: torch.device("cpu"),
    "torch.dtype": lambda: torch.float16,
    "torch.Size": lambda: torch.Size([1, 2]),
    "torch.Generator state": lambda: torch.Generator().get_state(),
    "optimizer": lambda: torch.optim.Adam(nn.Linear(2, 2).parameters()),
    "module": lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
    "parameter": lambda: nn.Parameter(torch.ones(2)),
    "sparse tensor": lambda: torch.eye(2).to_sparse(),
    "complex": lambda: 1j,
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset({1}),
    "bytes": lambda: b"\x00\xff",
    "bytearray": lambda: bytearray(b"x"),
    "slice": lambda: slice(1, 2),
    "range": lambda: range(3),
    "long number": lambda: 1 << 200,
    "exception": lambda: ValueError("x"),
    "itself": lambda: _holds_itself(),
}


def _holds_itself() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", OBJECTS)
def test_objects_beside_the_tensors_are_left_out(
    what: str, zipped: bool, protocol: int, tmp_path: Path
) -> None:
    content = {"first": OBJECTS[what](), "state_dict": conv4(), "args": OBJECTS[what]()}
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    assert len(check_weights(backbone("conv4"), path, WeightOptions())) >= 1
    parts = dict(state_dicts(read_weight_file(path).content))
    assert_equal(read_tensors(parts["state_dict"], path), conv4())


def test_a_run_names_classes_that_it_did_not_load(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    content = {"model": conv4(), "cfg": Settings(), "args": argparse.Namespace(a=Color.RED)}
    torch.save(content, tmp_path / "w.pth")
    output = invoke("run", pipeline(PIPELINE), "--threads", 1).out
    names = [f"{kind.__module__}.{kind.__name__}" for kind in (Settings, Color)]
    assert f"not loaded: objects of {', '.join(names)}; only tensors are" in output
    assert "argparse" not in output
    assert_equal(loaded(tmp_path), conv4())


class Reduced:
    """An object that is pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


HARM = "__import__('pathlib').Path('harmed').touch()"
DANGERS: dict[str, tuple[Any, str]] = {
    "os.system": (Reduced(os.system, "touch harmed"), "(posix|nt).system"),
    "os.mkdir": (Reduced(os.mkdir, "harmed"), "(posix|nt).mkdir"),
    "eval": (Reduced(eval, HARM), "eval"),
    "exec": (Reduced(exec, HARM), "exec"),
    "compile": (Reduced(compile, HARM, "x", "exec"), "compile"),
    "open": (Reduced(open, "harmed", "w"), "(_?io.)?open"),
    "import": (Reduced(builtins.__import__, "harmed"), "__import__"),
    "subprocess": (Reduced(subprocess.Popen, ["touch", "harmed"]), "(subprocess|commands).Popen"),
    "partial": (Reduced(functools.partial, os.system, "x"), "(posix|nt).system"),
    "pickle in a pickle": (Reduced(pickle.loads, b"x"), "_?pickle.loads"),
    "exit": (Reduced(sys.exit, 0), "sys.exit"),
    "class alone": ({"hook": os.system}, "(posix|nt).system"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", DANGERS)
def test_what_can_run_programs_is_refused_by_name_and_does_nothing(
    what: str,
    zipped: bool,
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
) -> None:
    danger, name = DANGERS[what]
    content = {"state_dict": conv4(), "x": danger}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    output = invoke("run", pipeline(PIPELINE), "--threads", 1, check=2).err
    assert "stages.model.weights: " in output
    assert re.search(f"asks for `{name}`, which can run programs: nothing of it was run", output)
    assert not (tmp_path / "harmed").exists()


def touch(path: str) -> None:
    Path(path).touch()


@pytest.mark.parametrize("nested", [False, True])
def test_a_call_of_unknown_code_is_not_made(
    nested: bool, pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    call: Any = Reduced(touch, str(tmp_path / "harmed"))
    content = {"state_dict": conv4(), "x": Reduced(getattr, call, "x") if nested else call}
    torch.save(content, tmp_path / "w.pth")
    assert f"{touch.__module__}.touch" in invoke("run", pipeline(PIPELINE), "--threads", 1).out
    assert not (tmp_path / "harmed").exists()
    assert_equal(loaded(tmp_path), conv4())


def lists(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in state.items()}


def legacy(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, _use_new_zipfile_serialization=False)


def module_of(state: dict[str, torch.Tensor]) -> nn.Module:
    """A module with this state dict, as `torch.save(model)` writes it."""
    root = nn.Module()
    for name, value in state.items():
        *path, last = name.split(".")
        module = root
        for word in path:
            if word not in module._modules:
                module.add_module(word, nn.Module())
            module = module.get_submodule(word)
        if value.is_floating_point() and "running" not in last:
            module.register_parameter(last, nn.Parameter(value))
        else:
            module.register_buffer(last, value)
    root.register_buffer("transient", torch.zeros(1), persistent=False)
    return root


FORMS: dict[str, Callable[[Path], Any]] = {
    "torch.save": lambda path: torch.save(conv4(), path),
    "torch.save before 1.6": legacy(conv4()),
    "pickle": lambda path: path.write_bytes(pickle.dumps(conv4())),
    "pickle of numpy arrays": lambda path: (
        path.write_bytes(pickle.dumps({"model": lists(conv4()), "__author__": "x"}, protocol=2))
        and None
    ),
    **{
        f"pickle of protocol {protocol}": lambda path, protocol=protocol: (
            path.write_bytes(pickle.dumps(lists(conv4()), protocol=protocol)) and None
        )
        for protocol in (0, 1)
    },
    "torch.save of protocol 1": lambda path: torch.save(
        conv4(), path, pickle_protocol=1, _use_new_zipfile_serialization=False
    ),
    "npz of big-endian numbers": lambda path: path.write_bytes(
        _npz({k: v.astype(v.dtype.newbyteorder(">")) for k, v in lists(conv4()).items()})
    ),
    "npz with objects and texts": lambda path: path.write_bytes(
        _npz(lists(conv4()) | {"a": np.array([{}], dtype=object), "b": np.array("x")})
    ),
    "npz": lambda path: path.write_bytes(_npz(lists(conv4()))),
    "safetensors": lambda path: save_file(conv4(), path),
    "whole module": lambda path: torch.save(module_of(conv4()), path),
    "whole module in a dict": lambda path: torch.save({"model": module_of(conv4())}, path),
    "parameters": lambda path: torch.save(
        dict(module_of(conv4()).state_dict(keep_vars=True)), path
    ),
    "views of a big tensor": lambda path: torch.save(_views(conv4()), path),
    "transposed": lambda path: torch.save(_transposed(conv4()), path),
    "list of dicts": lambda path: torch.save([{"epoch": 3}, conv4()], path),
    "names as bytes": lambda path: torch.save(
        {name.encode(): value for name, value in conv4().items()}, path
    ),
    "half precision": lambda path: torch.save(
        {name: value.half() if value.ndim else value for name, value in conv4().items()}, path
    ),
    "without checksums": lambda path: _without_checksums(path),
    "compressed": lambda path: _compressed(path),
}


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    savez: Any = np.savez
    buffer = io.BytesIO()
    savez(buffer, **arrays)
    return buffer.getvalue()


def _views(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    flat = torch.cat([value.flatten().float() for value in state.values()])
    views, start = {}, 0
    for name, value in state.items():
        views[name] = flat[start : start + value.numel()].view(value.shape)
        start += value.numel()
    return views


def _transposed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: value.transpose(0, 1).contiguous().transpose(0, 1) if value.ndim > 1 else value
        for name, value in state.items()
    }


def _without_checksums(path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    torch.save(conv4(), path)
    torch.serialization.set_crc32_options(before)


def _compressed(path: Path) -> None:
    torch.save(conv4(), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_state_dict_is_read(
    form: str, pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    FORMS[form](tmp_path / "w.pth")
    invoke("run", pipeline(PIPELINE), "--threads", 1)
    state, expected = loaded(tmp_path), conv4()
    if form == "half precision":
        expected = {name: value.half().to(value.dtype) for name, value in expected.items()}
    assert_equal(state, expected)


def quantized() -> dict[str, torch.Tensor]:
    return {
        name: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)
        if value.is_floating_point()
        else value
        for name, value in conv4().items()
    }


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch will drop quantized tensors
@pytest.mark.parametrize("zipped", [True, False])
def test_quantized_weights_are_said_not_to_be_read(zipped: bool, tmp_path: Path) -> None:
    path, words = tmp_path / "w.pth", "quantized weights are not read"
    torch.save(quantized(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=words):
        check_weights(backbone("conv4"), path, WeightOptions())
    content = {"model": conv4(), "small": quantized()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    notes = check_weights(backbone("conv4"), path, WeightOptions())
    assert notes[0] == "weights: entry `model`"
    assert any(words in note for note in notes)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
AGAIN = "copy or download it again"


def torch_bytes(zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(conv4(), buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def archive(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in names:
            made.writestr(name, "x")
    return buffer.getvalue()


def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        info = tarfile.TarInfo("a.pth")
        info.size = 3
        made.addfile(info, io.BytesIO(b"abc"))
    return buffer.getvalue()


def keras() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["a"] = [1.0]
    return buffer.getvalue()


def flipped() -> bytes:
    data = bytearray(torch_bytes())
    place = data.find(conv4()["conv3.conv.weight"].numpy().tobytes())
    data[place + 9] ^= 1
    return bytes(data)


INDEX = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}).encode()
OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "LFS pointer": (lambda: LFS, "is a Git LFS pointer, not a file of weights; `git lfs pull`"),
    "web page": (
        lambda: b"<!DOCTYPE html><html>404",
        "is a web page (HTML), not a file of weights",
    ),
    "empty": (lambda: b"", f"is an empty file, not a file of weights; {AGAIN}"),
    "zeros": (lambda: bytes(999), f"is a file of zeros only, not a file of weights; {AGAIN}"),
    "text": (lambda: b"hello\n", "is a text, not a file of weights; weights are .safetensors, or"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(9), "is a PNG picture, not a file of weights"),
    "tar": (packed, "is a tar archive, not a file of weights; unpack it"),
    "tar.gz": (lambda: gzip.compress(packed()), "is a gzip archive, not a file of weights; unpack"),
    "zip": (lambda: archive(["in/w.pth"]), "is a zip archive of 1 file (in/w.pth): unpack it"),
    "Keras 2": (keras, "is an HDF5 file, as Keras writes: torch cannot read it"),
    "Keras 3": (lambda: archive(["config.json", "model.weights.h5"]), "is a Keras model: torch"),
    "TorchScript": (
        lambda: archive(["m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"]),
        "is a TorchScript program; load it with torch.jit.load",
    ),
    "ONNX": (
        lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xff",
        "is an ONNX model: torch cannot",
    ),
    "TensorFlow Lite": (lambda: b"\x1c\0\0\0TFL3" + bytes(40), "is a TensorFlow Lite model"),
    "GGUF": (lambda: b"GGUF\x03\0\0\0" + b"\x07" * 40, "is a GGUF file of a language model"),
    "index of shards": (lambda: INDEX, "is an index of 2 files (m-1.safetensors, m-2.safetensors)"),
    "random bytes": (lambda: b"\x13\x37" * 50, "is not a file of weights, or is damaged"),
    "cut zip": (lambda: torch_bytes()[:-100], "is cut short: a zip archive, as torch.save writes"),
    "cut stream": (lambda: torch_bytes(False)[:-9], f"is cut short; {AGAIN}"),
    "cut pickle": (lambda: torch_bytes(False)[:200], "is damaged or cut short"),
    "cut safetensors": (lambda: save(conv4())[:-9], "is damaged or cut short"),
    "cut header": (lambda: save(conv4())[:60], "is damaged or cut short"),
    "no tensors": (lambda: pickle.dumps({"a": 1}), "holds no tensors by name"),
    "other objects": (lambda: pickle.dumps(Settings()), "holds no tensors by name, but objects of"),
    "npz of objects": (
        lambda: _npz({"a": np.array([{}], dtype=object)}),
        "holds no tensors by name, but objects of numpy.ndarray (`a`, of type object instead of",
    ),
    "bytes of Python 2": (
        lambda: b"(dp1\nS'a'\np2\nS'\\xff'\ns.",
        "has bytes as Python 2 wrote them in protocol 0, which are not read: load it with Python",
    ),
    "flipped bit": (flipped, "does not match its checksum"),
    "not finite": (
        lambda: save(conv4() | {"conv1.norm.bias": torch.full([8], float("inf"))}),
        "has values that are not finite, in conv1.norm.bias",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_another_file_is_and_the_remedy_are_told(
    what: str, pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    make, words = OTHERS[what]
    (tmp_path / "w.pth").write_bytes(make())
    of_values = what in ("flipped bit", "not finite")  # names and shapes alone are read first
    output = invoke("run", pipeline(PIPELINE), "--threads", 1, check=1 if of_values else 2).err
    assert f"{tmp_path / 'w.pth'} {'' if of_values else words}" in output
    assert words in output


@pytest.mark.parametrize("zipped", [True, False])
def test_any_damage_gives_a_message_or_weights(zipped: bool, tmp_path: Path) -> None:
    whole, path = torch_bytes(zipped), tmp_path / "w.pth"
    generator, refused = np.random.default_rng(0), 0
    places = [*range(0, 600, 7), *generator.integers(0, len(whole), 100)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            for _, part in state_dicts(read_weight_file(path).content):
                read_tensors(part, path)
        except ValueError as error:
            refused += str(error).startswith(f"{path} ")
    assert refused > 50


def nested_dicts() -> Any:
    """Return dicts of dicts, which share their values: 60 ** 8 tensors by name."""
    inner: Any = {"w": torch.zeros(1)}
    for _ in range(8):
        inner = {str(number): inner for number in range(60)}
    return inner


def nested_modules() -> nn.Module:
    module = nn.Module()
    module.add_module("a", nn.Module())
    module._modules["a"] = module._modules["b"] = module
    return module


@pytest.mark.parametrize("content", [nested_dicts, nested_modules])
def test_a_small_file_that_describes_endless_values_is_refused(
    content: Callable[[], Any], tmp_path: Path
) -> None:
    torch.save(content(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="has values nested in one another"):
        read_weight_file(tmp_path / "w.pth")


def test_names_that_are_no_texts_are_left_out(tmp_path: Path) -> None:
    torch.save({("a", 1): torch.zeros(1), 3: conv4()}, tmp_path / "w.pth")
    assert [name for name, _ in state_dicts(read_weight_file(tmp_path / "w.pth").content)] == ["3"]


def test_a_file_of_many_gigabytes_is_checked_by_its_names_and_shapes(tmp_path: Path) -> None:
    state = conv4() | {"optimizer": torch.zeros(1).expand(1 << 40)}
    torch.save({"model": state}, tmp_path / "w.pth")  # a view of a number, of 4 TB
    message = "unexpected: optimizer"
    with pytest.raises(ValueError, match=message):
        check_weights(backbone("conv4"), tmp_path / "w.pth", WeightOptions())
