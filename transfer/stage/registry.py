# pyright: strict
"""Finds the class behind `uses:`: a built-in by its path, others by an entry point or a file.

uses: pretext/jigsawpp          stages/pretext/jigsawpp.py
uses: pretext/shuffle           an entry point of that name in the group `transfer.stages`
uses: my_methods.py:Shuffle     a class in a file beside the pipeline file
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from transfer.artifacts import KINDS
from transfer.errors import UsageError, did_you_mean
from transfer.stage.base import Stage
from transfer.utils.paths import broken_link

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "transfer.stages"


def find_stage(uses: str, base_dir: Path) -> type[Stage]:
    """Return the stage class that `uses` names; UsageError if it is missing or invalid.

    Args:
        uses: the name in a pipeline file.
        base_dir: the folder in which `FILE.py:CLASS` is looked for.
    """
    if ".py:" in uses:
        file, _, name = uses.rpartition(":")
        return _stage_of_file((base_dir / file).resolve(), name)
    if uses in builtin_names():
        return _only_stage(importlib.import_module("stages." + uses.replace("/", ".")))
    points = _entry_points()
    if uses not in points:
        raise UsageError(f"unknown stage '{uses}'{did_you_mean(uses, [*builtin_names(), *points])}")
    point = points[uses]
    origin = f"stage '{uses}' of {point.dist.name if point.dist else point.value}"
    try:
        module = importlib.import_module(point.module)
    except (Exception, SystemExit) as error:  # a plug-in's code may raise anything
        raise UsageError(f"{origin} fails on import: {_in_one_line(error)}") from error
    return _stage_of_module(module, point.attr or "", f"{origin}: {point.module}")


def stage_names() -> list[str]:
    """Return all names that `uses:` can have, except files."""
    return sorted({*builtin_names(), *_entry_points()})


@cache
def builtin_names() -> tuple[str, ...]:
    """Return the paths of the stages' files below stages/, without `.py`.

    Files and folders with a leading underscore hold shared code.
    """
    spec = importlib.util.find_spec("stages")
    locations = (spec.submodule_search_locations if spec else None) or []
    names: set[str] = set()
    for root in map(Path, locations):
        for path in root.rglob("*.py"):
            name = path.relative_to(root).with_suffix("")
            if not any(part.startswith("_") for part in name.parts):
                names.add(name.as_posix())
    return tuple(sorted(names))


def source_digest(stage: type[Stage]) -> str:
    """Return the shortened sha256 of the file that defines a stage; empty if it has none.

    A change under the same `version` gives a note, and does not run the stage again.
    """
    try:
        return hashlib.sha256(Path(inspect.getfile(stage)).read_bytes()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""


@cache
def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # costs time that most commands need not spend

    return {point.name: point for point in entry_points(group=GROUP)}


def _stage_of_file(path: Path, name: str) -> type[Stage]:
    return _stage_of_module(_import_file(path), name, str(path))


def _stage_of_module(module: ModuleType, name: str, where: str) -> type[Stage]:
    if not hasattr(module, name):
        names = [
            name
            for name, value in vars(module).items()
            if _is_stage(value) and value.__module__ == module.__name__
        ]
        raise UsageError(f"{where} has no '{name}'{did_you_mean(name, names)}")
    return _checked_stage(getattr(module, name), f"{where}:{name}")


@cache
def _import_file(path: Path) -> ModuleType:
    """Import the file at `path`, once for all stages in it."""
    try:
        if not path.is_file():
            raise UsageError(f"the file {path} does not exist{broken_link(path)}")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    module_name = f"transfer_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None, "every .py file has a spec"
    assert spec.loader is not None, "every .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        del sys.modules[module_name]
        raise UsageError(f"{path} fails on import: {_in_one_line(error)}") from error
    return module


def _is_stage(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Stage) and value is not Stage


def _only_stage(module: ModuleType) -> type[Stage]:
    classes: list[type[Stage]] = [
        value
        for value in vars(module).values()
        if _is_stage(value) and value.__module__ == module.__name__
    ]
    assert len(classes) == 1, f"{module.__name__} must define one stage, not {len(classes)}"
    return classes[0]


def _checked_stage(value: Any, where: str) -> type[Stage]:
    """Return `value` if it is a complete stage class; UsageError otherwise."""
    if not _is_stage(value):
        raise UsageError(
            f"{where} is not a Stage (it is {value!r}); subclass transfer.stage.base.Stage, "
            "or a base in transfer/training"
        )
    stage: type[Stage] = value
    choices = f"choose from {', '.join(KINDS)} (see transfer/artifacts/)"
    if not hasattr(stage, "produces"):
        raise UsageError(f"{where}: `produces` is missing; {choices}")
    if stage.produces not in KINDS.values():
        raise UsageError(
            f"{where}: `produces` is {stage.produces!r}, which is not an artifact; {choices}"
        )
    if unknown := [
        f"{name} ({kind})" for name, kind in stage.input_fields().items() if kind not in KINDS
    ]:
        raise UsageError(f"{where}: reads {', '.join(unknown)}, which are not artifacts; {choices}")
    if stage.run is Stage.run:
        raise UsageError(f"{where} has no method `run(self, context)`, so it would make nothing")
    return stage


def _in_one_line(error: BaseException) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
