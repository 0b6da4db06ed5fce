"""Functions that a file of weights names or calls: refused, named, or known as harmless."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from tests.models.weights.test_files import OBJECTS, conv4, lists
from transfer.models import backbone
from transfer.models.weights.assignment import WeightOptions
from transfer.models.weights.loading import check_weights


def calling(function: str, operation: str = "reduce") -> bytes:
    """Return a pickle of weights and of a call, as no pickler writes where it is not installed."""
    module, _, name = function.rpartition(".")
    named, text = f"c{module}\n{name}\n".encode(), b"X\x01\0\0\0a"
    call = {
        "reduce": named + b"(" + text + b"tR",
        "newobj": named + b"(" + text + b"t\x81",
        "obj": b"(" + named + text + b"o",
        "inst": b"(" + text + f"i{module}\n{name}\n".encode(),
        "build": named + text + b"b",
        "partial": b"cfunctools\npartial\n(" + named + text + b"tR(tR",
    }[operation]
    weights = pickle.dumps({"state_dict": lists(conv4())}, protocol=2)[:-1]
    return weights + text + call + b"s."


REFUSED = [
    "torch.hub.load",
    "torch.load",
    "torch._dynamo.guards.exec",
    "torch.utils.collect_env.run",
    "torch.jit.load",
    "torch.serialization.load",
    "torch.utils.cpp_extension.load_inline",
    "numpy.load",
    "numpy.testing._private.utils.runstring",
    "asyncio.create_subprocess_shell",
    "asyncio.subprocess.create_subprocess_exec",
    "multiprocessing.util.spawnv_passfds",
    "pydoc.pipepager",
    "_posixsubprocess.fork_exec",
    "platform.popen",
    "logging.config.listen",
    "doctest.debug_script",
    "types.FunctionType",
    "types.CodeType",
    "cloudpickle.loads",
    "cloudpickle.cloudpickle.loads",
    "dill.loads",
    "joblib.load",
    "joblib.numpy_pickle.load",
    "logging.FileHandler",
]
NAMED = [
    "builtins.getattr",
    "builtins.type",
    "operator.attrgetter",
    "operator.methodcaller",
    "paramiko.client.dial",
    "threading.Thread",
    "torch.fx.graph_module.reduce_graph_module",
    "zipfile.ZipFile",
    "numpy.save",
    "cloudpickle.cloudpickle._make_function",
    "pathlib.Path.unlink",
    "torch.cuda._lazy_init",
]
OPERATIONS = ["reduce", "newobj", "obj", "inst", "build", "partial"]


@pytest.mark.parametrize("function", REFUSED)
def test_functions_of_libraries_that_run_code_are_refused(function: str, tmp_path: Path) -> None:
    for operation in OPERATIONS:
        (tmp_path / "w.pth").write_bytes(calling(function, operation))
        with pytest.raises(ValueError, match=f"asks for `{function}`, which can run programs"):
            check_weights(backbone("conv4"), tmp_path / "w.pth", WeightOptions())


@pytest.mark.parametrize("function", NAMED)
def test_calls_of_what_is_not_known_as_data_are_named(function: str, tmp_path: Path) -> None:
    for operation in OPERATIONS:
        (tmp_path / "w.pth").write_bytes(calling(function, operation))
        notes = check_weights(backbone("conv4"), tmp_path / "w.pth", WeightOptions())
        name = function.removeprefix("builtins.")
        assert f"not called: `{name}`; nothing of the file was run" in notes


@pytest.mark.parametrize(
    "what", ["argparse.Namespace", "numpy random state", "optimizer", "module", "date", "enum"]
)
def test_plain_objects_are_not_named_as_calls(what: str, tmp_path: Path) -> None:
    torch.save({"state_dict": conv4(), "x": OBJECTS[what]()}, tmp_path / "w.pth")
    notes = check_weights(backbone("conv4"), tmp_path / "w.pth", WeightOptions())
    assert not [note for note in notes if note.startswith("not called")]


@pytest.mark.parametrize("name", ["random _os.system", "torch.nn functional.torch.hub.load"])
def test_a_function_that_is_reached_through_another_module_is_refused(
    name: str, tmp_path: Path
) -> None:
    module, _, function = name.partition(" ")
    data = calling("a.b").replace(b"ca\nb\n", f"c{module}\n{function}\n".encode())
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(ValueError, match=f"asks for `{module}.{function}`, which can run programs"):
        check_weights(backbone("conv4"), tmp_path / "w.pth", WeightOptions())


def test_a_call_in_a_checkpoint_within_a_checkpoint_is_named(tmp_path: Path) -> None:
    inner = calling("operator.attrgetter")
    length = len(inner).to_bytes(4, "little")
    outer = calling("torch.storage._load_from_bytes").replace(
        b"(X\x01\0\0\0atR", b"(B" + length + inner + b"tR"
    )
    (tmp_path / "w.pth").write_bytes(outer)
    notes = check_weights(backbone("conv4"), tmp_path / "w.pth", WeightOptions(entry="state_dict"))
    assert "not called: `operator.attrgetter`; nothing of the file was run" in notes
