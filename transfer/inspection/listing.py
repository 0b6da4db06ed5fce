"""What there is to use: stages, backbones and image sets with their options, all read off the code."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from transfer.datasets.cards import card_files, find_place, load_card
from transfer.datasets.spec import ImageSpec
from transfer.errors import UsageError
from transfer.models import backbone_names, family
from transfer.models.backbone import Backbone
from transfer.models.timm_backbone import SMALL
from transfer.pipeline.plan import COMMON_OPTIONS
from transfer.stage.backbone_option import is_backbone_option
from transfer.stage.options import conditions, input_kind, option_text
from transfer.stage.registry import find_stage, stage_names

BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def listing(what: str) -> list[dict[str, str]]:
    """Name and one line of each stage, backbone or image set; of pretexts also their paper and what they need."""
    if what == "backbones":
        own = [{"name": name, "line": _line(family(name))} for name in backbone_names()]
        return own + [
            {"name": name, "line": f"{line}; needs the extra `teachers`"}
            for name, line in SMALL.items()
        ]
    if what == "data":
        return [_card_line(name) for name in card_files(Path.cwd())]
    pretexts = what == "pretexts"
    names = [name for name in stage_names() if not pretexts or name.startswith("pretext/")]
    return [_stage_line(name, pretexts) for name in names]


def _card_line(name: str) -> dict[str, str]:
    """A faulty card hides no other."""
    try:
        return {"name": name, "line": load_card(name, Path.cwd())[0].title}
    except UsageError as error:
        return {"name": name, "line": f"cannot be used: {error}"}


def _stage_line(name: str, pretext: bool) -> dict[str, str]:
    """A stranger's stage that fails on import hides no other."""
    try:
        found = find_stage(name, Path.cwd())
    except UsageError as error:
        return {"name": name, "line": f"cannot be used: {error}", "makes": ""}
    facts = {"name": name, "line": _line(found), "makes": found.produces.__name__}
    if pretext:
        facts["line"] = (found.__doc__ or facts["line"]).strip().splitlines()[0]
        facts |= {"paper": found.paper, "needs": found.needs}
    return facts


def listing_text(found: list[dict[str, str]]) -> str:
    width = max(len(one["name"]) for one in found)
    lines = []
    for one in found:
        lines.append(f"{one['name']:<{width}}  {one['line']}")
        needs = f"needs {one['needs']}" if one.get("needs") else ""
        if source := "; ".join(filter(None, [one.get("paper"), needs])):
            lines.append(f"{'':<{width}}  {source}")
    return "\n".join(lines)


def describe(what: str, name: str) -> dict[str, Any]:
    """Everything about one of them."""
    if what == "backbones":
        try:
            found = family(name)
        except ValueError as error:
            raise UsageError(str(error)) from error
        layers = found.model_validate({"name": name}).layer_names()
        return {"name": name, "about": _about(found), "options": _options(found), "layers": layers}
    if what == "data":
        card, file = load_card(name, Path.cwd())
        return {
            **card.described(file, find_place(card, file, Path.cwd())),
            "options": _options(ImageSpec),
        }
    if what == "pretexts" and "/" not in name and ".py:" not in name:
        name = f"pretext/{name}"
    found = find_stage(name, Path.cwd())
    types = {"data": "image set", "seed": "whole number"}
    types = {
        name: kind
        for name, kind in types.items()
        if (found.images if name == "data" else found.seeded)
    }
    common = [
        {"name": n, "type": types[n], "default": "", "help": help}
        for n, help in COMMON_OPTIONS.items()
        if n in types
    ]
    return {
        "name": name,
        "about": _about(found),
        "makes": found.produces.__name__,
        "version": found.version,
        "images": {role: images.split for role, images in found.images.items()},
        "options": _options(found) + common,
    }


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {number:,}" for key, number in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def describe_text(found: dict[str, Any]) -> str:
    lines = [found["name"] + (f"  makes {found['makes']}" if "makes" in found else "")]
    lines += ["", *(found.get("about") or found.get("title", "")).splitlines(), ""]
    for key in ("card", "place", "layout", "fetch", "splits", "classes", "size", "license", "cite"):
        if found.get(key):
            absent = key == "place" and not found["there"]
            lines.append(f"{key}: {_told(found[key])}{' (not there)' if absent else ''}".rstrip())
    width = max((len(option["name"]) for option in found["options"]), default=0)
    lines.append("options")
    for option in found["options"]:
        default = (
            "required"
            if option["default"] == "required"
            else f"default {option['default']}"
            if option["default"] != ""
            else ""
        )
        counts = f"counts with {option['counts']}" if option.get("counts") else ""
        facts = ", ".join(filter(None, [option["type"], option.get("bounds", ""), default, counts]))
        lines += [f"  {option['name']:<{width}}  {option['help']}", f"  {'':<{width}}  ({facts})"]
    if found.get("layers"):
        lines.append(f"layers: {', '.join(found['layers'])}")
    return "\n".join(lines)


def _options(model: type[BaseModel]) -> list[dict[str, str]]:
    options = []
    # A method's own options stand before those that it shares with others.
    owner = {
        name: kind
        for kind in reversed(model.__mro__)
        for name in getattr(kind, "__annotations__", {})
    }
    depth = {name: model.__mro__.index(owner[name]) for name in model.model_fields}
    for name in sorted(model.model_fields, key=depth.__getitem__):
        field = model.model_fields[name]
        bounds = ", ".join(
            f"{sign} {getattr(rule, key)}"
            for rule in field.metadata
            for key, sign in BOUNDS.items()
            if hasattr(rule, key)
        )
        default = "required" if field.is_required() else _plain(field.default)
        options.append(
            {
                "name": name,
                "type": _type_name(field),
                "bounds": bounds,
                "default": default,
                "help": field.description or "",
                "counts": ", ".join(
                    option_text(*condition) for condition in conditions(field).items()
                ),
            }
        )
    return options


def _type_name(field: FieldInfo) -> str:
    if kind := input_kind(field):
        many = "list" in str(field.annotation)
        return f"{'stage or list of stages' if many else 'stage'} that makes {kind}"
    if is_backbone_option(field):
        return "backbone"
    return _name(field.annotation)


def _name(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " | ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " | ".join("none" if one is type(None) else _name(one) for one in inner)
    if origin is list:
        return f"list of {_name(inner[0])}"
    if origin is typing.Annotated:
        return _name(inner[0])
    words = {
        "str": "text",
        "int": "whole number",
        "float": "number",
        "bool": "true | false",
        "OptionFile": "file",
    }
    return words.get(getattr(kind, "__name__", ""), str(kind))


def _plain(value: Any) -> str:
    if isinstance(value, Backbone):
        return value.name
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _about(kind: type) -> str:
    import inspect
    import sys

    head = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "").splitlines()
    return "\n\n".join(
        filter(None, [head[0] if head else "", inspect.cleandoc(kind.__doc__ or "")])
    )


def _line(kind: type) -> str:
    import sys

    return (sys.modules[kind.__module__].__doc__ or kind.__doc__ or "").strip().splitlines()[0]
