"""Messages for what pydantic rejects: the place in the file, the problem, and the nearest name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from transfer.datasets.spec import ImageSpec
from transfer.errors import did_you_mean
from transfer.models import FAMILIES
from transfer.pipeline.document_nodes import FAULTY
from transfer.pipeline.plan import COMMON_OPTIONS
from transfer.stage.base import Stage
from transfer.stage.renamed_options import RENAMED_VALUES, renamed_option
from transfer.utils.formatting import value_text

SHOULD_BE = "should be "
Steps = tuple[Any, ...]  # the way from the top of the values to one of them


@dataclass(frozen=True)
class Rejection:
    """What pydantic rejects: a message, and the value where the message does not name it."""

    message: str
    value: Any = None
    shows_value: bool = False

    def __str__(self) -> str:
        if not self.shows_value:
            return self.message
        hint = ""
        if isinstance(self.value, str) and self.value in RENAMED_VALUES:
            present = RENAMED_VALUES[self.value]
            hint = f"; `{self.value}` is called `{present}`" if present in self.message else ""
        return f"{self.message} (found {value_text(self.value)}){hint}"


def fault_messages(error: ValidationError, model: type[BaseModel], values: Any) -> dict[Steps, str]:
    """Map each faulty place in `values` to a message.

    pydantic reports each variant of a union, under names that are not in the file; here they are
    one fault. A value that was reported as faulty before is not reported again.

    Args:
        error: what pydantic raised.
        model: the model that rejected the values.
        values: the values, as they are in the file.
    """
    rejections: dict[Steps, list[Rejection]] = {}
    for report in error.errors():
        absent = report["type"] in ("missing", "extra_forbidden")
        if absent or not holds_faulty(report.get("input")):
            path = _path_in_file(report["loc"], values, absent)
            rejections.setdefault(path, []).append(_rejection(report, model))
    # Where a variant fits better than the others, its faults are deeper and more precise.
    outer = {path[:length] for path in rejections for length in range(len(path))}
    return {path: _joined(variants) for path, variants in rejections.items() if path not in outer}


def _path_in_file(path: Steps, values: Any, absent: bool) -> Steps:
    """Return the steps of `path` that are in the file; with `absent`, the last one is missing."""
    kept = []
    for index, step in enumerate(path):
        if isinstance(values, list):
            values = dict(enumerate(values))
        if isinstance(values, dict) and step in values:
            values = values[step]
        elif not (absent and index == len(path) - 1):
            continue  # the name of a variant
        kept.append(step)
    return tuple(kept)


def _joined(variants: list[Rejection]) -> str:
    """Return the message of a union whose variants all reject a value."""
    alike = all(
        variant.shows_value and variant.message.startswith(SHOULD_BE) for variant in variants
    )
    if len(variants) > 1 and alike:
        choices = dict.fromkeys(variant.message.removeprefix(SHOULD_BE) for variant in variants)
        return str(Rejection(SHOULD_BE + " or ".join(choices), variants[0].value, True))
    return str(variants[0])


def _rejection(report: Mapping[str, Any], model: type[BaseModel]) -> Rejection:
    """Put a report of pydantic into the words of a pipeline file."""
    kind, path, value = report["type"], report["loc"], report.get("input")
    if kind == "extra_forbidden":
        name, names = str(path[-1]), _names_at(model, path)
        if present := renamed_option(name, dict.fromkeys(names)):
            return Rejection(f"`{name}` is called `{present}`")
        return Rejection(f"unknown option{did_you_mean(name, names)}")
    if kind == "missing":
        help = _help(model, path)
        return Rejection("is required" + (f": {help}" if help else ""))
    message = report["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind in ("too_short", "too_long"):
        message = message.removeprefix("List ").replace(" after validation", "")
    if kind == "value_error" or isinstance(value, dict):
        return Rejection(message)
    if kind == "string_type" and issubclass(model, Stage) and path[-1] in model.input_fields():
        message = "must be the name of one stage"
    return Rejection(message, value, shows_value=True)


def _names_at(model: type[BaseModel], path: Steps) -> list[str]:
    """Return the names that are allowed as the last step of `path`."""
    if len(path) == 1:
        return [*model.model_fields, *(COMMON_OPTIONS if issubclass(model, Stage) else ())]
    nested: dict[Any, type[BaseModel]] = {f"<{kind.__name__}>": kind for kind in FAMILIES}
    nested["data"] = ImageSpec
    return [*nested[path[-2]].model_fields] if path[-2] in nested else []


def faulty_option(model: type[BaseModel], values: dict[str, Any]) -> str:
    """Return the option whose own check raises something else than a ValidationError."""
    for name, value in values.items():
        try:
            model.model_validate({name: value})
        except ValidationError:
            continue
        except Exception:
            return name
    return ""


def holds_faulty(value: Any) -> bool:
    """Return whether a value that was reported as faulty is part of this one."""
    if isinstance(value, (dict, list)):
        return any(map(holds_faulty, value.values() if isinstance(value, dict) else value))
    return value is FAULTY


def _help(model: type[BaseModel], path: Steps) -> str:
    field = model.model_fields.get(str(path[0])) if len(path) == 1 else None
    return (field.description or "") if field else ""
