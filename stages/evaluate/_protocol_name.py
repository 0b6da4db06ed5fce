"""The name of a protocol, which says where a run departs from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transfer.utils.formatting import inline_yaml

if TYPE_CHECKING:
    from transfer.stage.base import Stage


def protocol_name(protocol: str, stage: Stage, always: Sequence[str] = ()) -> str:
    """`protocol` for a stage whose options are as published, which their defaults are; else with those that are not.

    always: options that are told in any case.
    """
    inputs = stage.input_fields()
    return protocol_name_with_overrides(
        protocol,
        {
            name: value
            for name, field in type(stage).model_fields.items()
            if name not in inputs
            and ((value := getattr(stage, name)) != field.default or name in always)
        },
    )


def protocol_name_with_overrides(protocol: str, changed: dict[str, Any]) -> str:
    """`protocol` with the options that depart from it, as in `voc_svm/vissl-v1 (samples 2)`."""
    told = ", ".join(f"{name} {inline_yaml(value)}" for name, value in changed.items())
    return protocol + (f" ({told})" if told else "")
