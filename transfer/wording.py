"""What pydantic finds wrong, in words that help."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from transfer.document import FAULTY, shown
from transfer.errors import nearest
from transfer.images.spec import ImageSpec
from transfer.networks import FAMILIES
from transfer.plan import COMMON
from transfer.stage import Stage


def say_all(error: ValidationError, model: type[BaseModel], values: Any) -> dict[tuple[Any, ...], str]:
    """Where in `values` something is wrong -> what, in words that help; not what was told of a faulty value already.

    pydantic tells each variant of a union, under names of variants that stand nowhere in a file: they are one fault.
    """
    found: dict[tuple[Any, ...], list[str]] = {}
    for fault in error.errors():
        absent = fault["type"] in ("missing", "extra_forbidden")
        if absent or not holds_faulty(fault.get("input")):
            found.setdefault(_written(fault["loc"], values, absent), []).append(say(fault, model))
    inner = {path[:place] for path in found for place in range(len(path))}  # a variant that fits better tells more
    return {path: _either(told) for path, told in found.items() if path not in inner}


def _written(path: tuple[Any, ...], values: Any, absent: bool) -> tuple[Any, ...]:
    """The steps of `path` that stand in the file, not the variants of unions. absent: the last one is missing there."""
    kept = []
    for place, step in enumerate(path):
        if isinstance(values, list):
            values = dict(enumerate(values))
        if isinstance(values, dict) and step in values:
            values = values[step]
        elif not (absent and place == len(path) - 1):
            continue
        kept.append(step)
    return tuple(kept)


def _either(told: list[str]) -> str:
    """One message of those of the variants of a union."""
    parts = [one.removeprefix("should be ").partition(" (found ") for one in told]
    if len(told) == 1 or not all(
        one.startswith("should be ") and part[1] for one, part in zip(told, parts, strict=True)
    ):
        return told[0]
    return f"should be {' or '.join(dict.fromkeys(wanted for wanted, _, _ in parts))} (found {parts[0][2]}"


def say(fault: dict[str, Any], model: type[BaseModel]) -> str:
    """pydantic's fault in words that help."""
    if fault["type"] == "extra_forbidden":
        return f"unknown option{nearest(str(fault['loc'][-1]), _names_at(model, fault['loc']))}"
    if fault["type"] == "missing":
        return "is required" + (f": {help}" if (help := _help(model, fault["loc"])) else "")
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if fault["type"] in ("too_short", "too_long"):
        message = message.removeprefix("List ").replace(" after validation", "")
    found = fault.get("input")
    if fault["type"] == "value_error" or isinstance(found, dict):
        return message
    if fault["type"] == "string_type" and issubclass(model, Stage) and fault["loc"][-1] in model.input_fields():
        message = "must be the name of one stage"
    return f"{message} (found {shown(found)})"


def _names_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """What the last word of `path` could have been."""
    if len(path) == 1:
        return [*model.model_fields, *(COMMON if issubclass(model, Stage) else ())]
    nested = {f"<{kind.__name__}>": kind for kind in FAMILIES} | {"data": ImageSpec}
    return [*nested[path[-2]].model_fields] if path[-2] in nested else []


def culprit(model: type[BaseModel], values: dict[str, Any]) -> str:
    """The option whose check fails in its own code."""
    for name, value in values.items():
        try:
            model.model_validate({name: value})
        except ValidationError:
            continue
        except Exception:
            return name
    return ""


def holds_faulty(value: Any) -> bool:
    """Whether a value that was told already is part of this one."""
    if isinstance(value, (dict, list)):
        return any(map(holds_faulty, value.values() if isinstance(value, dict) else value))
    return value is FAULTY


def _help(model: type[BaseModel], path: tuple[Any, ...]) -> str:
    found = model.model_fields.get(str(path[0])) if len(path) == 1 else None
    return found.description or "" if found else ""
