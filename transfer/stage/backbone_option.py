# pyright: strict
"""The option that names a backbone: a name, or a mapping with the options of its family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, Discriminator, Tag
from pydantic.fields import FieldInfo

from transfer.models import FAMILIES, Timm, family
from transfer.models.backbone import Backbone


def _as_mapping(value: Any) -> Any:
    """Return `{name: vgg16}` for `vgg16`; ValueError suggests the nearest name."""
    if isinstance(value, Backbone):
        return value
    options = cast("dict[str, Any]", {"name": value} if isinstance(value, str) else value)
    name = options.get("name") if isinstance(value, str | dict) else None
    if not isinstance(name, str):
        raise ValueError("must be a name, or a mapping with `name`: {name: vgg16, width: 0.25}")
    family(name)
    return options


def _variant(value: Backbone | dict[str, Any]) -> str:
    name = value["name"] if isinstance(value, dict) else value.name
    return f"<{family(name).__name__}>"


def _without_published_weights(value: Backbone) -> Backbone:
    if isinstance(value, Timm) and value.tag:
        raise ValueError(
            f"{value.name} names published weights, but this stage starts from random ones; "
            f"leave '.{value.tag}' out, or use `pretext/pretrained`"
        )
    return value


if TYPE_CHECKING:
    PublishedBackbone: TypeAlias = Backbone  # may start from weights trained elsewhere
    BackboneOption: TypeAlias = Backbone  # starts from random weights
else:
    from functools import reduce
    from operator import or_

    # One variant per family: a fault is reported at its own option, and the JSON Schema lists all.
    _VARIANTS = reduce(or_, [Annotated[kind, Tag(f"<{kind.__name__}>")] for kind in FAMILIES])
    PublishedBackbone = Annotated[_VARIANTS, Discriminator(_variant), BeforeValidator(_as_mapping)]
    BackboneOption = Annotated[PublishedBackbone, AfterValidator(_without_published_weights)]


def is_backbone_option(field: FieldInfo) -> bool:
    """Whether an option names a backbone."""
    return any(kind.__name__ in str(field.annotation) for kind in FAMILIES)
