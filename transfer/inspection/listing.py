"""List the stages, backbones and image sets to choose from, or describe one of them."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from transfer.datasets.cards import card_files, find_place, load_card
from transfer.datasets.spec import ImageSpec
from transfer.errors import UsageError
from transfer.inspection.option_descriptions import description_lines, option_descriptions
from transfer.models import backbone_names, family
from transfer.models.timm_backbone import SMALL
from transfer.pipeline.plan import common_options
from transfer.stage.base import Stage
from transfer.stage.registry import find_stage, stage_names

FAMILIES = {"pretexts": "pretext/", "targets": "target/", "protocols": "evaluate/"}
COMMON_TYPES = {"data": "image set", "seed": "whole number"}
CARD_FACTS = ("card", "place", "layout", "fetch", "splits", "classes", "size", "license", "cite")


def listing(what: str) -> list[dict[str, str]]:
    """Return the name and one line of each stage, backbone or image set.

    Pretexts have their paper and what they need too; targets and protocols are stages as well.
    """
    if what == "backbones":
        return _backbone_entries()
    if what == "data":
        return [_card_entry(name) for name in card_files(Path.cwd())]
    return [_stage_entry(name, what == "pretexts") for name in family_names(what)]


def family_names(what: str) -> list[str]:
    """Return the names of all stages, or of all pretexts, targets or protocols."""
    return [name for name in stage_names() if name.startswith(FAMILIES.get(what, ""))]


def listed_names(what: str) -> list[str]:
    """Return the names of `listing`, short where the kind is clear: `jigsawpp` among pretexts."""
    if what == "backbones":
        return [*backbone_names(), *SMALL]
    if what == "data":
        return list(card_files(Path.cwd()))
    return [name.removeprefix(FAMILIES.get(what, "")) for name in family_names(what)]


def listing_text(entries: list[dict[str, str]]) -> str:
    """Return what `listing` returns, as lines."""
    width = max(len(entry["name"]) for entry in entries)
    lines = []
    for entry in entries:
        lines.append(f"{entry['name']:<{width}}  {entry['line']}")
        needs = f"needs {entry['needs']}" if entry.get("needs") else ""
        if source := "; ".join(filter(None, [entry.get("paper"), needs])):
            lines.append(f"{'':<{width}}  {source}")
    return "\n".join(lines)


def describe(what: str, name: str) -> dict[str, Any]:
    """Return everything about a stage, backbone or image set."""
    if what == "backbones":
        return _describe_backbone(name)
    if what == "data":
        card, file = load_card(name, Path.cwd())
        facts = card.described(file, find_place(card, file, Path.cwd()))
        return {**facts, "options": option_descriptions(ImageSpec)}
    if "/" not in name and ".py:" not in name:
        name = FAMILIES.get(what, "") + name
    return _describe_stage(name)


def describe_text(facts: dict[str, Any]) -> str:
    """Return what `describe` returns, as lines."""
    made = f"  makes {facts['makes']}" if "makes" in facts else ""
    about = facts.get("about") or facts.get("title", "")
    lines = [f"{facts['name']}{made}", "", *about.splitlines(), ""]
    for key in CARD_FACTS:
        if facts.get(key):
            missing = key == "place" and not facts["there"]
            note = " (does not exist)" if missing else ""
            lines.append(f"{key}: {_fact_text(facts[key])}{note}".rstrip())
    lines += ["options", *description_lines(facts["options"])]
    if facts.get("layers"):
        lines.append(f"layers: {', '.join(facts['layers'])}")
    return "\n".join(lines)


def _backbone_entries() -> list[dict[str, str]]:
    own = [{"name": name, "line": _first_line(family(name))} for name in backbone_names()]
    timm = [
        {"name": name, "line": f"{line}; needs the extra `teachers`"}
        for name, line in SMALL.items()
    ]
    return own + timm


def _card_entry(name: str) -> dict[str, str]:
    """The entry of an image set; a faulty card hides no other."""
    try:
        return {"name": name, "line": load_card(name, Path.cwd())[0].title}
    except UsageError as error:
        return {"name": name, "line": f"cannot be used: {error}"}


def _stage_entry(name: str, is_pretext: bool) -> dict[str, str]:
    """The entry of a stage; a plug-in that fails on import hides no other."""
    try:
        kind = find_stage(name, Path.cwd())
    except UsageError as error:
        return {"name": name, "line": f"cannot be used: {error}", "makes": ""}
    line = _first_line(kind)
    entry = {"name": name, "line": line, "makes": kind.produces.__name__}
    if is_pretext:
        entry["line"] = (kind.__doc__ or line).strip().splitlines()[0]
        entry |= {"paper": kind.paper, "needs": kind.needs}
    return entry


def _describe_backbone(name: str) -> dict[str, Any]:
    try:
        kind = family(name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return {
        "name": name,
        "about": _about(kind),
        "options": option_descriptions(kind),
        "layers": kind.model_validate({"name": name}).layer_names(),
    }


def _describe_stage(name: str) -> dict[str, Any]:
    kind = find_stage(name, Path.cwd())
    return {
        "name": name,
        "about": _about(kind),
        "makes": kind.produces.__name__,
        "version": kind.version,
        "images": {role: images.split for role, images in kind.images.items()},
        "options": option_descriptions(kind) + _common_options(kind),
    }


def _common_options(kind: type[Stage]) -> list[dict[str, str]]:
    """The options that any stage has, as far as they have an effect."""
    return [
        {"name": name, "type": COMMON_TYPES[name], "default": "", "help": help}
        for name, help in common_options(kind).items()
    ]


def _fact_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {number:,}" for key, number in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _module_doc(kind: type) -> str:
    return inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "")


def _about(kind: type) -> str:
    """The first line of the module, and the docstring of the class."""
    head = _module_doc(kind).splitlines()
    doc = inspect.cleandoc(kind.__doc__ or "")
    return "\n\n".join(filter(None, [head[0] if head else "", doc]))


def _first_line(kind: type) -> str:
    return (_module_doc(kind) or kind.__doc__ or "").strip().splitlines()[0]
