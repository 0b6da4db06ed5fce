"""The option that names a backbone: a name, or a mapping of a name and the options of its family."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Discriminator, Tag
from pydantic.fields import FieldInfo

from transfer.models import FAMILIES, Timm, family
from transfer.models.backbone import Backbone


def _with_name(value: Any) -> Any:
    """`vgg16` means `{name: vgg16}`; ValueError names the nearest name to an unknown one."""
    options = {"name": value} if isinstance(value, str) else value
    if isinstance(options, Backbone):
        return options
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise ValueError("must be a name, or a mapping with `name`: {name: vgg16, width: 0.25}")
    family(options["name"])
    return options


def _variant(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else value.name
    return f"<{family(name).__name__}>"


def _without_published_weights(value: Backbone) -> Backbone:
    if isinstance(value, Timm) and value.tag:
        raise ValueError(
            f"{value.name} names published weights, but this stage starts from random ones: "
            f"leave '.{value.tag}' out, or use `pretext/pretrained`"
        )
    return value


if TYPE_CHECKING:
    PublishedBackbone: TypeAlias = Backbone  # of a network that may have been trained elsewhere
    BackboneOption: TypeAlias = Backbone  # of a network that starts from random weights
else:
    # One variant a family: a fault is reported at its own option, and the JSON Schema knows them all.
    _VARIANTS = reduce(or_, [Annotated[kind, Tag(f"<{kind.__name__}>")] for kind in FAMILIES])
    PublishedBackbone = Annotated[_VARIANTS, Discriminator(_variant), BeforeValidator(_with_name)]
    BackboneOption = Annotated[PublishedBackbone, AfterValidator(_without_published_weights)]


def is_backbone_option(field: FieldInfo) -> bool:
    """Whether an option names a backbone."""
    return any(kind.__name__ in str(field.annotation) for kind in FAMILIES)
