"""Options and inputs: the fields of a stage class, with their help, bounds and conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from transfer.artifacts import Artifact

T = TypeVar("T")

# Former name -> present name, of options and of their values. A former name is refused with the present one.
RENAMED_OPTIONS: dict[str, tuple[str, ...]] = {
    "accumulate": ("accumulation_steps",),
    "amounts": ("label_budgets",),
    "batch": ("batch_size",),
    "beside": ("random_baseline",),
    "clip": ("clip_grad_norm",),
    "colour": ("color",),
    "crop": ("crop_size", "crop_side"),
    "density": ("mask_ratio",),
    "distance": ("min_hamming_distance",),
    "downsampled": ("downsample",),
    "draws": ("repeats",),
    "drops": ("milestones",),
    "embedding": ("embedding_dim",),
    "floor": ("variance_floor",),
    "focal": ("focal_gamma",),
    "grey": ("grayscale",),
    "hidden": ("hidden_dim",),
    "hide": ("mask",),
    "latent": ("latent_dim",),
    "least_score": ("score_threshold",),
    "licence": ("license",),
    "locked": ("frozen_up_to",),
    "mask": ("mask_ratio",),
    "measure": ("loss",),
    "patch": ("patch_size",),
    "projected": ("projection_dim",),
    "projection": ("projection_dim", "color_projection"),
    "reassign": ("reassign_every",),
    "regions": ("regions_per_image",),
    "tile": ("tile_size",),
    "tries": ("n_init",),
    "untrained": ("random_weights",),
    "warmup": ("warmup_epochs",),
    "ways": ("methods",),
    "width": ("decoder_width",),
}
RENAMED_VALUES = {"centre": "center", "standardise": "standardize", "middle": "center"}


def renamed_option(former: str, options: Mapping[str, Any]) -> str | None:
    """The present name of an option that was called `former`; None where none of `options` was."""
    return next((name for name in RENAMED_OPTIONS.get(former, ()) if name in options), None)


def option(
    default: Any, help: str, applies_when: dict[str, list[Any]] | None = None, **bounds: Any
) -> Any:
    """Declare an option of a stage.

    Args:
        default: its value where a pipeline file gives none; `...` makes it required.
        help: one line for `transfer list`, messages and the JSON Schema.
        applies_when: other options, each with the values that give this one an effect:
            `{"head": ["mlp"]}`. Of an option that is a list, one entry is enough.
        bounds: pydantic's ge, gt, le and lt.
    """
    extra = {"applies_when": applies_when} if applies_when else None
    return Field(default=default, description=help, json_schema_extra=extra, **bounds)


def stage_input(artifact: type[Artifact], help: str, optional: bool = False, **bounds: Any) -> Any:
    """Declare an input of a stage: the name of a stage that makes an `artifact`.

    A field of type `OneOrMoreStages` takes a list of such names too.
    """
    extra = {"artifact": artifact.__name__}
    default = None if optional else ...
    return Field(default=default, description=help, json_schema_extra=extra, **bounds)


def conditions(field: FieldInfo) -> dict[str, list[Any]]:
    """Other option -> its values with which this one has an effect; empty: it always has one."""
    return _extra(field, "applies_when") or {}


def input_kind(field: FieldInfo) -> str | None:
    """The kind of artifact that an input reads; None for an option."""
    return _extra(field, "artifact")


def _extra(field: FieldInfo, name: str) -> Any:
    extra = field.json_schema_extra
    return extra.get(name) if isinstance(extra, dict) else None


def option_text(name: str, values: list[Any]) -> str:
    """An option with the values that it may have, as in a pipeline file: `head: linear or mlp`."""
    return f"`{name}: {' or '.join(map(str, values))}`"


def inputs_named(inputs: Mapping[str, T], name: str) -> list[T]:
    """All values of the input `name`, in the file's order; those of a list are `name.0`, ..."""
    return [value for key, value in inputs.items() if key == name or key.startswith(f"{name}.")]


def _stage_names(value: Any) -> Any:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("must be the name of a stage, or a list of such names")
    return value


# The type of an input that may be one stage or several.
OneOrMoreStages = Annotated[str | list[str], BeforeValidator(_stage_names)]
