"""JSON Schema of pipeline files, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from transfer.datasets.spec import ImageSpec
from transfer.errors import UsageError
from transfer.models import backbone_names
from transfer.models.timm_backbone import PREFIX
from transfer.pipeline.plan import PipelineHeader
from transfer.stage.backbone_option import is_backbone_option
from transfer.stage.base import Stage
from transfer.stage.registry import find_stage, stage_names


def pipeline_schema() -> dict[str, Any]:
    """JSON Schema of pipeline files: point an editor's YAML support at it for completion and checks."""
    definitions: dict[str, Any] = {}
    variants = []
    for name in stage_names():
        try:
            kind = find_stage(name, Path.cwd())
        except UsageError:
            continue
        found = _own_schema(kind, definitions)
        found["properties"] = {
            "uses": {"const": name},
            "seed": {"type": "integer"},
            "data": {"$ref": "#/$defs/data"},
            **found["properties"],
        }
        if not kind.images:
            del found["properties"]["data"]
        found["required"] = ["uses", *found.get("required", [])]
        variants.append(_or_variable(found))
    image_spec = _own_schema(ImageSpec, definitions)
    definitions["data"] = {"anyOf": [{"type": "string"}, image_spec]}
    header = _or_variable(_own_schema(PipelineHeader, definitions))["properties"]
    header["data"] = {"$ref": "#/$defs/data"}
    definitions = {name: _or_variable(one) for name, one in definitions.items()}
    named = {
        "type": "object",
        "properties": {"uses": {"type": "string", "pattern": r"(\.py:|\$\{)"}},
        "required": ["uses"],
    }
    stages = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"anyOf": [*variants, named]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "transfer pipeline",
        "type": "object",
        "properties": {**header, "matrix": {"type": "object"}, "stages": stages},
        "required": ["stages"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _or_variable(schema: Any, value: bool = False) -> Any:
    """The schema in which any value may be a matrix variable, `${name}`, as well."""
    if isinstance(schema, list):
        return [_or_variable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: one if key == "properties" else _or_variable(one, key == "items")
        for key, one in schema.items()
    }
    if "properties" in schema:
        properties = schema["properties"].items()
        found["properties"] = {
            name: one if name == "uses" else _or_variable(one, True) for name, one in properties
        }
    return {"anyOf": [found, {"type": "string", "pattern": r"\$\{.*\}"}]} if value else found


def _own_schema(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    found = model.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(found.pop("$defs", {}))
    if issubclass(model, Stage):
        for name, field in model.model_fields.items():
            if is_backbone_option(field):
                variants = found["properties"][name].pop("oneOf", None) or found["properties"][
                    name
                ].pop("anyOf")
                timm = {"type": "string", "pattern": f"^{PREFIX}"}
                found["properties"][name]["anyOf"] = [{"enum": backbone_names()}, timm, *variants]
    return found
