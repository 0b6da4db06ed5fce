"""The imports of `transfer` and `stages`, read off their files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORK = sorted((ROOT / "transfer").rglob("*.py"))
STAGES = sorted((ROOT / "stages").rglob("*.py"))


def module_name(path: Path) -> str:
    """`transfer.utils.files` of `transfer/utils/files.py`; a folder's `__init__` is the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Module name -> its file."""
    return {module_name(path): path for path in [*FRAMEWORK, *STAGES]}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the full name of everything that a file imports, and the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@cache
def graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports, for type checkers too."""
    arrows: dict[str, set[str]] = {}
    for name, path in modules().items():
        targets = set()
        for imported, _ in imports(path):
            # `from package import module` names the module; `from module import symbol` its parent.
            target = imported if imported in modules() else imported.rpartition(".")[0]
            if target in modules() and target != name:
                targets.add(target)
        arrows[name] = targets
    return arrows


def cycles() -> list[list[str]]:
    """Groups of modules that import one another (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph()[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            place = stack.index(name)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                groups.append(sorted(group))

    for name in graph():
        if name not in index:
            visit(name)
    return groups
