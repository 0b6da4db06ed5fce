"""The direction of imports, what a stage's file may hold, and what no file may use."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORK = sorted((ROOT / "transfer").rglob("*.py"))
STAGES = sorted((ROOT / "stages").rglob("*.py"))

# From the bottom to the top. A module imports from lines above its own, never from its own or below; what a folder
# holds is one module here, and its files may import one another.
LAYERS = [
    "errors",
    "files lazy places progress",
    "answers",
    "document machine networks parallel processes statistics tables clustering preparation",
    "artifacts manifest matrix variables",
    "store",
    "stage work",
    "catalog images",
    "given plan training",
    "planned_images",
    "embedding",
    "formats",
    "wiring wording",
    "ancestry",
    "pipeline",
    "reasons",
    "make states",
    "runner",
    "api",
    "expected scored",
    "comparable comparison",
    "compare",
    "tabular",
    "textplot",
    "describe modelcard picture schema show",
    "doctor export report upkeep",
    "cli",
    "__main__",
]
LAYER = {name: number for number, line in enumerate(LAYERS) for name in line.split()}
EXPORTED = "transfer/formats.py"  # what it saves is for others, and tensors only: it reads them back as such
PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Full name of everything that a file imports, and the line; not what only a type checker sees."""

    def visit(node: ast.AST) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from visit(child)
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")))


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_module_of_the_framework_has_its_layer() -> None:
    top = {path.relative_to(ROOT / "transfer").parts[0].removesuffix(".py") for path in FRAMEWORK}
    assert top - {"__init__"} == LAYER.keys(), (
        "give it a line in LAYERS, or take the one that is gone out of it"
    )


@pytest.mark.parametrize("path", FRAMEWORK, ids=short)
def test_the_framework_imports_downwards_and_nothing_of_the_stages(path: Path) -> None:
    mine = path.relative_to(ROOT / "transfer").parts[0].removesuffix(".py")
    upwards = []
    for name, line in imports(path):
        parts = name.split(".")
        assert parts[0] != "stages", f"{short(path)}:{line} imports {name}"
        if parts[0] != "transfer" or len(parts) == 1 or parts[1] == mine or mine == "__init__":
            continue
        if parts[1] == "__version__":
            continue
        if LAYER[parts[1]] >= LAYER[mine]:
            upwards.append(f"{short(path)}:{line}: {mine} imports {name}")
    assert upwards == []


@pytest.mark.parametrize(
    "path", [path for path in STAGES if not path.name.startswith("_")], ids=short
)
def test_a_file_of_a_stage_defines_one_stage_and_imports_no_other(path: Path) -> None:
    from transfer.stage.base import Stage
    from transfer.stage.registry import find_stage

    name = path.relative_to(ROOT / "stages").with_suffix("").as_posix()
    module = sys.modules[find_stage(name, ROOT).__module__]
    found = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
    ]
    assert sum(issubclass(kind, Stage) for kind in found) == 1
    others = [imported for imported, _ in imports(path) if imported.startswith("stages.")]
    assert [one for one in others if not any(part.startswith("_") for part in one.split("."))] == []


@pytest.mark.parametrize("path", STAGES, ids=short)
def test_stages_import_only_the_framework_and_what_is_installed(path: Path) -> None:
    from importlib.metadata import packages_distributions

    known = {"transfer", "stages", *sys.stdlib_module_names, *packages_distributions()}
    assert {name.split(".")[0] for name, _ in imports(path)} - known == set()


@pytest.mark.parametrize("path", [*FRAMEWORK, *STAGES], ids=short)
def test_what_is_no_option_says_of_which_type_it_is(path: Path) -> None:
    # Python 3.10 refuses the bare word, where later ones read it.
    nodes = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AnnAssign)
    ]
    assert [
        node.lineno for node in nodes if ast.unparse(node.annotation) in ("ClassVar", "Final")
    ] == []


@pytest.mark.parametrize("path", [*FRAMEWORK, *STAGES], ids=short)
def test_nothing_is_pickled_and_nothing_is_loaded_loosely(path: Path) -> None:
    found = [
        f"{line}: import of {name}"
        for name, line in imports(path)
        if name.split(".")[0] in PICKLERS
    ]
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    # A user's own weights: what torch then reads is tensors, and anything else is an error.
    safe = [call.func for call in calls if "weights_only=True" in map(ast.unparse, call.keywords)]
    if short(path) == EXPORTED:
        safe += [call.func for call in calls if ast.unparse(call.func) == "torch.save"]
    for node in nodes:
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node) in ("torch.save", "torch.load")
            and node not in safe
        ):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.Call) and ast.unparse(node.func) != "zip":
            for keyword in node.keywords:
                if ast.unparse(keyword) in (
                    "strict=False",
                    "allow_pickle=True",
                    "weights_only=False",
                ):
                    found.append(f"{node.lineno}: {ast.unparse(keyword)}")
    assert found == []
