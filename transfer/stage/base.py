"""Stage: what one step of a pipeline is: its options, its typed inputs, what it makes.

A stage is a class whose annotated fields are its options and inputs. `transfer list`, the messages, the JSON
Schema and the keys of the store are all made from these fields, so a default or a bound stands in one place:

    class Cluster(Stage):
        produces = Clusters
        features: str = reads(Features, "the features to cluster")
        k: int = option(2000, "number of clusters", ge=2)

        def run(self, work: Work) -> None:
            features = work.inputs["features"]
            ...

A stage knows nothing of caching, locking or where it runs: all that is in `work` (see `transfer/stage/context.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)
from pydantic.fields import FieldInfo

from transfer.artifacts import Artifact
from transfer.models import FAMILIES, Timm, family
from transfer.models.backbone import Backbone

if TYPE_CHECKING:
    from transfer.pipeline.plan import PlannedStage
    from transfer.stage.context import StageContext

T = TypeVar("T")


def _names_of_stages(value: Any) -> Any:
    if not isinstance(value, str) and not (
        isinstance(value, list) and value and all(map(_is_text, value))
    ):
        raise ValueError("must be the name of a stage, or a list of such names")
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


# The type of an input that may be one stage or several.
OneOrMoreStages = Annotated[str | list[str], BeforeValidator(_names_of_stages)]


def option(
    default: Any, help: str, where: dict[str, list[Any]] | None = None, **bounds: Any
) -> Any:
    """An option of a stage; `...` as default makes it required. `bounds` are pydantic's (ge, gt, le, lt).

    `where={"head": ["mlp"]}`: it counts only where the option `head` is one of these (of a list: has one of them).
    """
    return Field(
        default, description=help, json_schema_extra={"where": where} if where else None, **bounds
    )


def applies_when(field: FieldInfo) -> dict[str, list[Any]]:
    """Option -> those of its values with which this one counts; empty: it always does."""
    return _extra(field, "where") or {}


def input_kind(field: FieldInfo) -> str | None:
    """The kind of artifact that an input reads; None for an option."""
    return _extra(field, "artifact")


def _extra(field: FieldInfo, name: str) -> Any:
    return field.json_schema_extra.get(name) if isinstance(field.json_schema_extra, dict) else None


def option_text(name: str, values: list[Any]) -> str:
    """An option with the values that it may have, as one would write them."""
    return f"`{name}: {' or '.join(map(str, values))}`"


def stage_input(artifact: type[Artifact], help: str, optional: bool = False, **bounds: Any) -> Any:
    """An input of a stage: the name of a stage that makes an `artifact`; of a field `str | list[str]`, or several."""
    default = None if optional else ...
    return Field(
        default, description=help, json_schema_extra={"artifact": artifact.__name__}, **bounds
    )


def inputs_named(inputs: Mapping[str, T], name: str) -> list[T]:
    """All that the input `name` names, in the file's order; those of a list are `name.0`, `name.1`, ..."""
    return [one for key, one in inputs.items() if key == name or key.startswith(f"{name}.")]


def _named(value: Any) -> Any:
    """`vgg16` means `{name: vgg16}`; an unknown name is told with the nearest one."""
    options = {"name": value} if isinstance(value, str) else value
    if isinstance(options, Backbone):
        return options
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise ValueError(
            "a backbone is a name, or a mapping with `name`, as in {name: vgg16, width: 0.25}"
        )
    family(options["name"])
    return options


def _variant(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else value.name
    return f"<{family(name).__name__}>"


# One variant a family, so that an option's fault is found at its own place and the JSON Schema knows them all.
_VARIANTS = reduce(or_, [Annotated[kind, Tag(f"<{kind.__name__}>")] for kind in FAMILIES])
PublishedBackbone = Annotated[_VARIANTS, Discriminator(_variant), BeforeValidator(_named)]


def _untrained(value: Backbone) -> Backbone:
    if isinstance(value, Timm) and value.tag:
        told = (
            "starts with random weights here; `pretext/pretrained` takes those that timm publishes"
        )
        raise ValueError(f"{value.name} {told}: leave '.{value.tag}' out")
    return value


BackboneOption = Annotated[PublishedBackbone, AfterValidator(_untrained)]


def is_backbone_option(field: FieldInfo) -> bool:
    """Whether an option names a network."""
    return any(kind.__name__ in str(field.annotation) for kind in FAMILIES)


class ImageInput:
    """Which images a stage reads when the pipeline file does not say.

    `split` is looked for first; a set without `unlabeled` gives its `train`, a set of one split gives that.
    With `follow`, the images are those of the input of that name (pseudo-labels know their images).
    """

    def __init__(self, split: str, follow: str | None = None, labeled: bool = False):
        self.split, self.follow, self.labeled = split, follow, labeled


class Stage(BaseModel):
    """Base of all stages. Subclass it, or one of the bases in `transfer/training`, and write `run`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    produces: ClassVar[type[Artifact]]
    version: ClassVar[int] = 1  # raise it when the same options give another result
    seeded: ClassVar[bool] = True  # False: the seed is no part of the key, for nothing is drawn
    images: ClassVar[
        dict[str, ImageInput]
    ] = {}  # role -> which images; empty: the stage reads none
    smoke: ClassVar[dict[str, Any]] = {}  # what `--smoke` caps: numbers from above, others replaced
    # option that names a file -> what `--smoke` changes where that file is not there; none: it must be there
    stand_ins: ClassVar[dict[str, dict[str, Any]]] = {}

    def run(self, context: StageContext) -> None:
        """Read `work.inputs` and `work.images`, write the artifact's files into `work.folder`."""
        raise NotImplementedError

    def validate_plan(self, planned: PlannedStage) -> None:
        """Raise BadOption (or ValueError) for what the plan shows to be wrong; every command calls it, so no torch."""

    def validate_build(self, planned: PlannedStage) -> None:
        """Raise ValueError for what building the networks shows to be wrong; called before the first stage runs."""

    @classmethod
    def input_fields(cls) -> dict[str, str]:
        """Field name -> name of the artifact kind that it reads."""
        kinds = {name: input_kind(field) for name, field in cls.model_fields.items()}
        return {name: kind for name, kind in kinds.items() if kind}

    def identity(self) -> dict[str, Any]:
        """The options that the result depends on: with defaults, without inputs (their keys stand for them)."""
        return self.model_dump(mode="json", exclude={*self.input_fields()})

    def ineffective_options(self, written: Iterable[str]) -> list[str]:
        """What to say of each of the options `written` that another option leaves without effect."""
        told = []
        for name in written:
            for other, wanted in applies_when(type(self).model_fields[name]).items():
                value = getattr(self, other)
                if not any(
                    one in wanted for one in (value if isinstance(value, list) else [value])
                ):
                    told.append(
                        f"`{name}` has no effect: it counts with {option_text(other, wanted)}"
                    )
        return told

    def for_smoke_run(self) -> Stage:
        """This stage, small enough to run in seconds."""
        changes = {}
        for name, cap in self.smoke.items():
            value = getattr(self, name)
            if isinstance(cap, bool) or not isinstance(cap, (int, float)):
                changes[name] = cap
            elif value is not None:
                changes[name] = min(value, cap)
        return self.model_copy(update=changes)
