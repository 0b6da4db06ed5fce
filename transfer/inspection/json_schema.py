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
# Of a stage in a file beside the pipeline, or of one that a matrix variable names.
OTHER_STAGE = r"\.py:|\$\{"
DATA = {"$ref": "#/$defs/data"}
TEXT = {"type": "string"}


def pipeline_schema() -> Schema:
    """Return the JSON Schema of pipeline files, with the stages that are installed.

    Conditions choose the schema of a stage by its `uses`, so that an editor reports the option that
    is wrong, not that the stage is none of those that exist.
    """
    definitions: Schema = {}
    stages: Schema = {}
    for name in stage_names():
        try:
            kind = find_stage(name, Path.cwd())
        except UsageError:
            continue
        stages[name] = _or_variable(_stage_schema(kind, definitions))
    image_spec = _own_schema(ImageSpec, definitions)
    definitions["data"] = {"if": TEXT, "else": image_spec}
    header = _or_variable(_own_schema(PipelineHeader, definitions))["properties"]
    header["data"] = DATA
    stage = {
        "type": "object",
        "properties": {"uses": _choice(list(stages), OTHER_STAGE)},
        "required": ["uses"],
        "allOf": [_where("uses", {"const": name}, schema) for name, schema in stages.items()],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "transfer pipeline",
        "type": "object",
        "properties": {
            **header,
            "matrix": {"type": "object"},
            "stages": {"type": "object", "minProperties": 1, "additionalProperties": stage},
        },
        "required": ["stages"],
        "additionalProperties": False,
        "$defs": {name: _or_variable(schema) for name, schema in definitions.items()},
    }


def _where(name: str, value: Schema, schema: Schema) -> Schema:
    """Return the schema of an object, which applies where its entry `name` has a value."""
    return {"if": {"properties": {name: value}, "required": [name]}, "then": schema}


def _choice(names: list[str], other: str) -> Schema:
    """Return the schema of one of `names`, or of a text with the pattern `other`."""
    return {"type": "string", "if": {"pattern": other}, "else": {"enum": names}}


def _stage_schema(kind: type[Stage], definitions: Schema) -> Schema:
    """The schema of a stage with its common options."""
    schema = _own_schema(kind, definitions)
    common: Schema = {"uses": TEXT, "seed": {"type": "integer"}}
    if kind.images:
        common["data"] = DATA
    schema["properties"] = {**common, **schema["properties"]}
    return schema


def _or_variable(schema: Any, is_value: bool = False) -> Any:
    """Return the schema in which any value may also be a matrix variable, `${name}`."""
    if isinstance(schema, list):
        return [_or_variable(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    extended = {
        key: value if key in ("properties", "if") else _or_variable(value, key == "items")
        for key, value in schema.items()
    }
    if "properties" in schema:
        extended["properties"] = {
            name: value if name == "uses" else _or_variable(value, True)
            for name, value in schema["properties"].items()
        }
    return {"if": VARIABLE, "else": extended} if is_value else extended


def _own_schema(model: type[BaseModel], definitions: Schema) -> Schema:
    """The schema of a model; those that it refers to go to `definitions`."""
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    if not issubclass(model, Stage):
        return schema
    for name, field in model.model_fields.items():
        if is_backbone_option(field):
            option = schema["properties"][name]
            families = option.pop("oneOf", None) or option.pop("anyOf")
            option |= _backbone_schema([family["$ref"] for family in families], definitions)
    return schema


def _backbone_schema(families: list[str], definitions: Schema) -> Schema:
    """The schema of a backbone: its name, or an object with the options of its family.

    Args:
        families: references to the schemas of the families.
        definitions: these schemas, by name.
    """
    name = _choice(backbone_names(), rf"^{PREFIX}|\$\{{")
    schemas = {family: definitions[family.rpartition("/")[2]] for family in families}
    mapping = {
        "type": "object",
        "properties": {"name": name},
        "required": ["name"],
        "allOf": [
            _where("name", schema["properties"]["name"], {"$ref": family})
            for family, schema in schemas.items()
        ],
    }
    return {"if": TEXT, "then": name, "else": mapping}
