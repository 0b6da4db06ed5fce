"""Describe the options of a stage, backbone or image set: type, bounds, default and help."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from transfer.models.backbone import Backbone
from transfer.stage.backbone_option import is_backbone_option
from transfer.stage.options import conditions, input_kind, option_text

BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
TYPE_NAMES = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true | false",
    "OptionFile": "file",
}


def option_descriptions(model: type[BaseModel]) -> list[dict[str, str]]:
    """Describe each field of a model; its own come before those that it shares with others."""
    owner = {
        name: kind
        for kind in reversed(model.__mro__)
        for name in getattr(kind, "__annotations__", {})
    }
    depth = {name: model.__mro__.index(owner[name]) for name in model.model_fields}
    names = sorted(model.model_fields, key=depth.__getitem__)
    return [_description(name, model.model_fields[name]) for name in names]


def _description(name: str, field: FieldInfo) -> dict[str, str]:
    bounds = [
        f"{sign} {getattr(rule, key)}"
        for rule in field.metadata
        for key, sign in BOUNDS.items()
        if hasattr(rule, key)
    ]
    needed = [option_text(*condition) for condition in conditions(field).items()]
    return {
        "name": name,
        "type": _option_type(field),
        "bounds": ", ".join(bounds),
        "default": "required" if field.is_required() else _default_text(field.default),
        "help": field.description or "",
        "applies_when": " and ".join(needed),  # what gives it an effect
    }


def description_lines(options: list[dict[str, str]]) -> list[str]:
    """Return two lines for each option: its help, and its facts in parentheses."""
    width = max((len(option["name"]) for option in options), default=0)
    lines = []
    for option in options:
        facts = [option["type"], option.get("bounds", ""), _default_fact(option["default"])]
        if option.get("applies_when"):
            facts.append(f"has no effect unless {option['applies_when']}")
        lines.append(f"  {option['name']:<{width}}  {option['help']}")
        lines.append(f"  {'':<{width}}  ({', '.join(filter(None, facts))})")
    return lines


def _default_fact(default: str) -> str:
    return default if default in ("", "required") else f"default {default}"


def _option_type(field: FieldInfo) -> str:
    if kind := input_kind(field):
        takes_list = "list" in str(field.annotation)
        return f"{'stage or list of stages' if takes_list else 'stage'} that makes {kind}"
    return "backbone" if is_backbone_option(field) else _type_name(field.annotation)


def _type_name(kind: Any) -> str:
    """The name of a type in the words of a pipeline file."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " | ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " | ".join("none" if part is type(None) else _type_name(part) for part in inner)
    if origin is list:
        return f"list of {_type_name(inner[0])}"
    if origin is dict:
        return f"mapping of {_type_name(inner[0])} to {_type_name(inner[1])}"
    if origin is typing.Annotated:
        return _type_name(inner[0])
    return TYPE_NAMES.get(getattr(kind, "__name__", ""), str(kind))


def _default_text(value: Any) -> str:
    if isinstance(value, Backbone):
        return value.name
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
