"""Finds the class behind `uses:`: a built-in by its path, any other by its entry point or its file.

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

from transfer.artifacts import KINDS
from transfer.errors import UsageError, did_you_mean
from transfer.stage.base import Stage

GROUP = "transfer.stages"


def find_stage(uses: str, beside: Path) -> type[Stage]:
    """The stage class that `uses` names; UsageError says what is wrong with it, or names the nearest."""
    if ".py:" in uses:
        file, _, name = uses.rpartition(":")
        return _from_file((beside / file).resolve(), name)
    if uses in builtin_names():
        return _only_stage(importlib.import_module("stages." + uses.replace("/", ".")))
    points = _entry_points()
    if uses not in points:
        raise UsageError(f"unknown stage '{uses}'{did_you_mean(uses, [*builtin_names(), *points])}")
    point = points[uses]
    try:
        module = importlib.import_module(point.module)
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        raise UsageError(
            f"stage '{uses}' of {_distribution(point)} fails on import: {_brief(error)}"
        ) from error
    return _member(
        module, point.attr or "", f"stage '{uses}' of {_distribution(point)}: {point.module}"
    )


def stage_names() -> list[str]:
    """All that `uses:` can name, but files."""
    return sorted({*builtin_names(), *_entry_points()})


@cache
def builtin_names() -> tuple[str, ...]:
    """Paths of the files below stages/, without `.py`; those with a leading underscore are no stages."""
    spec = importlib.util.find_spec("stages")
    roots = [Path(place) for place in (spec.submodule_search_locations if spec else [])]
    found = [
        path.relative_to(root).with_suffix("") for root in roots for path in root.rglob("*.py")
    ]
    return tuple(
        sorted(p.as_posix() for p in found if not any(part.startswith("_") for part in p.parts))
    )


def source_digest(stage: type[Stage]) -> str:
    """sha256 of the file that defines the stage: a change under the same `version` is told, not acted on."""
    try:
        return hashlib.sha256(Path(inspect.getfile(stage)).read_bytes()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""


@cache
def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    import importlib.metadata

    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def _distribution(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _from_file(path: Path, name: str) -> type[Stage]:
    return _member(_module(path), name, str(path))


def _member(module: ModuleType, name: str, where: str) -> type[Stage]:
    if not hasattr(module, name):
        stages = [
            n
            for n, value in vars(module).items()
            if _is_stage(value) and value.__module__ == module.__name__
        ]
        raise UsageError(f"{where} has no '{name}'{did_you_mean(name, stages)}")
    return _checked(getattr(module, name), f"{where}:{name}")


@cache
def _module(path: Path) -> ModuleType:
    """The file at `path`, imported once however many stages of it are named."""
    try:
        if not path.is_file():
            raise UsageError(f"there is no file {path}")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    module_name = f"transfer_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        del sys.modules[module_name]
        raise UsageError(f"{path} fails on import: {_brief(error)}") from error
    return module


def _is_stage(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Stage) and value is not Stage


def _only_stage(module: object) -> type[Stage]:
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Stage)
        and value.__module__ == module.__name__
    ]
    assert len(classes) == 1, f"{module.__name__} must define one stage, not {len(classes)}"
    return classes[0]


def _checked(found: object, what: str) -> type[Stage]:
    if not _is_stage(found):
        raise UsageError(
            f"{what} is not a Stage (it is {found!r}): subclass transfer.stage.base.Stage or a base made from it"
        )
    kinds = ", ".join(KINDS)
    if not hasattr(found, "produces"):
        raise UsageError(
            f"{what} does not say what it `produces`: one of {kinds} (see transfer/artifacts.py)"
        )
    if found.produces not in KINDS.values():
        raise UsageError(
            f"{what} produces {found.produces!r}, which is none of {kinds} (see transfer/artifacts.py)"
        )
    if strange := [
        f"{name} ({kind})" for name, kind in found.input_fields().items() if kind not in KINDS
    ]:
        raise UsageError(
            f"{what} reads {', '.join(strange)}, which is none of {kinds} (see transfer/artifacts.py)"
        )
    if found.run is Stage.run:
        raise UsageError(f"{what} has no `run(self, work)`: nothing would be made")
    return found


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
