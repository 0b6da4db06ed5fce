# pyright: strict
"""Options and inputs: the fields of a stage class, with their help, bounds and conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from transfer.artifacts import Artifact

if TYPE_CHECKING:
    from pydantic.config import JsonDict

T = TypeVar("T")


def option(
    default: Any, help: str, applies_when: dict[str, list[Any]] | None = None, **bounds: Any
) -> Any:
    """Declare an option of a stage.

    Args:
        default: the value if a pipeline file gives none; `...` makes the option required.
        help: one line for `transfer list`, messages and the JSON Schema.
        applies_when: other options, each with the values that give this one an effect:
            `{"head": ["mlp"]}`. Of an option that is a list, one entry is enough.
        bounds: pydantic's ge, gt, le and lt.
    """
    extra = cast("JsonDict", {"applies_when": applies_when}) if applies_when else None
    return Field(default=default, description=help, json_schema_extra=extra, **bounds)


def stage_input(artifact: type[Artifact], help: str, optional: bool = False, **bounds: Any) -> Any:
    """Declare an input of a stage: the name of a stage that makes an artifact.

    A field of type `OneOrMoreStages` takes a list of such names too.

    Args:
        artifact: the kind of artifact.
        help: one line for `transfer list`, messages and the JSON Schema.
        optional: whether a pipeline file may leave the input out.
        bounds: pydantic's bounds.
    """
    extra: JsonDict = {"artifact": artifact.__name__}
    default = None if optional else ...
    return Field(default=default, description=help, json_schema_extra=extra, **bounds)


def conditions(field: FieldInfo) -> dict[str, list[Any]]:
    """Return other option -> its values for which this one has an effect; empty: it always has."""
    return _extra(field, "applies_when") or {}


def input_kind(field: FieldInfo) -> str | None:
    """Return the kind of artifact that an input reads; None for an option."""
    return _extra(field, "artifact")


def _extra(field: FieldInfo, name: str) -> Any:
    extra = field.json_schema_extra
    return None if extra is None or callable(extra) else extra.get(name)


def option_text(name: str, values: list[Any]) -> str:
    """Format an option with its possible values as in a pipeline file: `head: linear or mlp`."""
    return f"`{name}: {' or '.join(map(str, values))}`"


def inputs_named(inputs: Mapping[str, T], name: str) -> list[T]:
    """Return all values of the input `name` in the file's order; a list's are `name.0`, ..."""
    return [value for key, value in inputs.items() if key == name or key.startswith(f"{name}.")]


def _check_stage_names(value: Any) -> Any:
    names = cast("list[Any]", value if isinstance(value, list) else [value])
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("must be the name of a stage, or a list of such names")
    return cast("Any", value)


# The type of an input that may be one stage or several.
OneOrMoreStages = Annotated[str | list[str], BeforeValidator(_check_stage_names)]
