"""JSON Schema of pipeline files, for completion and checks in editors."""

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

Schema = dict[str, Any]

VARIABLE = {"type": "string", "pattern": r"\$\{.*\}"}
DATA = {"$ref": "#/$defs/data"}


def pipeline_schema() -> Schema:
    """Return the JSON Schema of pipeline files, with the stages that are installed."""
    definitions: Schema = {}
    variants = []
    for name in stage_names():
        try:
            kind = find_stage(name, Path.cwd())
        except UsageError:
            continue
        variants.append(_or_variable(_stage_schema(name, kind, definitions)))
    image_spec = _own_schema(ImageSpec, definitions)
    definitions["data"] = {"anyOf": [{"type": "string"}, image_spec]}
    header = _or_variable(_own_schema(PipelineHeader, definitions))["properties"]
    header["data"] = DATA
    definitions = {name: _or_variable(schema) for name, schema in definitions.items()}
    # A stage whose class is in a file beside the pipeline, or depends on a matrix variable.
    other_stage = {
        "type": "object",
        "properties": {"uses": {"type": "string", "pattern": r"(\.py:|\$\{)"}},
        "required": ["uses"],
    }
    stages = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"anyOf": [*variants, other_stage]},
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


def _stage_schema(name: str, kind: type[Stage], definitions: Schema) -> Schema:
    """The schema of a stage with its common options."""
    schema = _own_schema(kind, definitions)
    common: Schema = {"uses": {"const": name}, "seed": {"type": "integer"}}
    if kind.images:
        common["data"] = DATA
    schema["properties"] = {**common, **schema["properties"]}
    schema["required"] = ["uses", *schema.get("required", [])]
    return schema


def _or_variable(schema: Any, is_value: bool = False) -> Any:
    """Return the schema in which any value may also be a matrix variable, `${name}`."""
    if isinstance(schema, list):
        return [_or_variable(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    extended = {
        key: value if key == "properties" else _or_variable(value, key == "items")
        for key, value in schema.items()
    }
    if "properties" in schema:
        extended["properties"] = {
            name: value if name == "uses" else _or_variable(value, True)
            for name, value in schema["properties"].items()
        }
    return {"anyOf": [extended, VARIABLE]} if is_value else extended


def _own_schema(model: type[BaseModel], definitions: Schema) -> Schema:
    """The schema of a model; those that it refers to go to `definitions`."""
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    if not issubclass(model, Stage):
        return schema
    for name, field in model.model_fields.items():
        if is_backbone_option(field):
            option = schema["properties"][name]
            variants = option.pop("oneOf", None) or option.pop("anyOf")
            timm = {"type": "string", "pattern": f"^{PREFIX}"}
            option["anyOf"] = [{"enum": backbone_names()}, timm, *variants]
    return schema
