"""Imports run one way: rooms on floors, no cycles, no family of stages that knows another.

Imports for type checkers and files with a leading underscore count too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.import_graph import FRAMEWORK, ROOT, STAGES, cycles, imports, module_name, modules

# From the bottom to the top. A room imports from lower floors only; rooms on one floor never
# import one another. What lies inside a room may import what lies beside it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "version"),
    ("utils",),
    ("numerics", "transforms", "models", "storage"),
    ("artifacts",),
    ("stage",),
    ("datasets",),
    ("training", "pipeline"),
    ("execution", "plugin"),
    ("comparison",),
    ("api",),
    ("export", "inspection"),
    ("report", "__init__"),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# What these may not import though it lies below them.
FORBIDDEN = {
    "utils": {"version"},
    "execution": {"training"},
    "plugin": {"pipeline", "datasets"},
    "stages": {"pipeline", "execution", "plugin"},
}
ROOT_FILES = {"__init__", "__main__", "api", "errors", "plugin", "version"}
TOP_OF_STAGES = FLOOR["training"]  # stages import what is on this floor or below
# Families of stages, and the files that all of them may use.
FAMILIES = ("pretext", "extract", "target", "evaluate", "cluster", "prepare", "assign")
PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
READS_STATE_DICTS = "transfer/export/formats.py"  # reads back what it wrote: tensors only


def room(name: str) -> str:
    """The room of a module of `transfer`: `transfer.utils.files` is in `utils`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", FRAMEWORK, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_rooms_import_from_lower_floors_only(path: Path) -> None:
    own = room(module_name(path))
    assert own in FLOOR, f"{path}: no floor for the room `{own}`: add it to FLOORS"
    for name, line in imports(path):
        where = f"{path.relative_to(ROOT)}:{line}: imports {name}"
        assert not name.startswith("stages."), f"{where}: stages are found by name"
        if name.partition(".")[0] != "transfer":
            continue
        other = room(name)
        assert other == own or FLOOR[other] < FLOOR[own], where
        assert other not in FORBIDDEN.get(own, ()), where


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_stages_import_the_framework_and_their_own_family(path: Path) -> None:
    own = path.relative_to(ROOT / "stages").with_suffix("").parts[0]
    for name, line in imports(path):
        where = f"{path.relative_to(ROOT)}:{line}: imports {name}"
        top, _, rest = name.partition(".")
        if top == "stages":
            assert rest.partition(".")[0] == own, f"{where}, of another family"
        if top == "transfer":
            other = room(name)
            assert FLOOR[other] <= TOP_OF_STAGES, where
            assert other not in FORBIDDEN["stages"], where


@pytest.mark.slow
def test_no_module_imports_itself_in_a_cycle() -> None:
    assert cycles() == []


def test_the_root_holds_six_files_and_every_folder_is_a_package() -> None:
    assert {path.stem for path in (ROOT / "transfer").glob("*.py")} == ROOT_FILES
    folders = {path.parent for path in [*FRAMEWORK, *STAGES]}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    "path",
    [path for path in STAGES if not any(part.startswith("_") for part in path.parts[-2:])],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_a_stage_file_defines_one_stage(path: Path) -> None:
    import importlib

    from transfer.stage.base import Stage

    module = importlib.import_module(module_name(path))
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Stage)
        and value.__module__ == module.__name__
    ]
    assert len(classes) == 1


@pytest.mark.parametrize(
    "path", [*FRAMEWORK, *STAGES], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_nothing_is_pickled_and_torch_loads_tensors_only(path: Path) -> None:
    for name, line in imports(path):
        assert name.partition(".")[0] not in PICKLERS, f"{path}:{line}: imports {name}"
    for call in _calls(path):
        text = ast.unparse(call)
        if text.startswith(("torch.load(", "np.load(", "numpy.load(")):
            safe = (
                "weights_only=True" in text if "torch" in text else "allow_pickle=True" not in text
            )
            assert safe, f"{path}:{call.lineno}: {text}"
        assert "strict=False" not in text.partition("load_state_dict(")[2], f"{path}:{call.lineno}"


def _calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def test_plugin_names_all_that_it_promises() -> None:
    import transfer.plugin as plugin

    assert sorted(plugin.__all__) == plugin.__all__
    assert [name for name in plugin.__all__ if not hasattr(plugin, name)] == []


def test_imports_of_third_parties_are_declared() -> None:
    known = {name.partition(".")[0] for name in modules()} | set(sys.stdlib_module_names)
    declared = {
        "PIL",
        "click",
        "faiss",
        "filelock",
        "h5py",
        "huggingface_hub",
        "markupsafe",
        "jinja2",
        "numpy",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "pydantic",
        "rich",
        "ruamel",
        "safetensors",
        "scipy",
        "skimage",
        "sklearn",
        "threadpoolctl",
        "tifffile",
        "timm",
        "torch",
        "torchvision",
    }
    used = {name.partition(".")[0] for path in [*FRAMEWORK, *STAGES] for name, _ in imports(path)}
    assert used - known - declared == set()
