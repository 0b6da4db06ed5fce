"""The name of a protocol, with the options that depart from the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transfer.utils.formatting import inline_yaml

if TYPE_CHECKING:
    from transfer.stage.base import Stage


def protocol_name(
    protocol: str,
    stage: Stage,
    always: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> str:
    """Return the name of the protocol as a stage runs it.

    The defaults of the options are the published settings; others are added to the name.

    Args:
        protocol: the name with published settings.
        stage: the stage.
        always: options that are part of the name even at their defaults.
        size: sides of the network's images in px, the model's and the published one, where the
            protocol has one.
    """
    inputs = stage.input_fields()
    options = {
        name: (getattr(stage, name), field.default)
        for name, field in type(stage).model_fields.items()
        if name not in inputs
    }
    changed = {
        name: value
        for name, (value, default) in options.items()
        if value != default or name in always
    }
    if size and size[0] != size[1]:
        changed["size"] = size[0]
    return protocol_name_with_overrides(protocol, changed)


def protocol_name_with_overrides(protocol: str, changed: dict[str, Any]) -> str:
    """Return `protocol` with the changed options, as in `voc_svm/vissl-v1 (samples 2)`."""
    overrides = ", ".join(f"{name} {inline_yaml(value)}" for name, value in changed.items())
    return f"{protocol} ({overrides})" if overrides else protocol
