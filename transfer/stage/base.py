# pyright: strict
"""Stage: a step of a pipeline with its options, its typed inputs and the artifact that it makes.

A stage is a class whose annotated fields are its options and inputs. `transfer list`, messages, the
JSON Schema and the store's keys are made from these fields:

    class Cluster(Stage):
        produces = Clusters
        features: str = stage_input(Features, "the features to cluster")
        k: int = option(2000, "number of clusters", ge=2)

        def run(self, context: StageContext) -> None:
            features = context.inputs["features"]
            ...

A stage does not depend on caching, locking or the device: `context` provides them (`context.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from transfer.artifacts import Artifact
from transfer.errors import did_you_mean
from transfer.stage.image_input import DatasetInfo, ImageInput
from transfer.stage.options import conditions, input_kind, option_text
from transfer.storage.manifest import key_for
from transfer.utils.formatting import inline_yaml, member_label

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.backbone import Backbone
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

PACK = "images"  # the `uses:` word of the stages that pack image sets; no file can write it


class Stage(BaseModel):
    """Base of all stages. Subclass it, or a base in `transfer/training`, and write `run`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    produces: ClassVar[type[Artifact]]
    version: ClassVar[int] = 1  # raise it when the same options give another result
    seeded: ClassVar[bool] = True  # False: nothing is random, so the seed is not part of the key
    images: ClassVar[dict[str, ImageInput]] = {}  # role -> which images; empty: it reads none
    # Inherited option -> another default. Type, help and bounds stay: {"epochs": 50}.
    defaults: ClassVar[dict[str, Any]] = {}
    smoke: ClassVar[dict[str, Any]] = {}  # `--smoke`: upper limits of numbers, other values as is
    # Option that names a file -> changes that `--smoke` makes if that file is missing.
    stand_ins: ClassVar[dict[str, dict[str, Any]]] = {}
    is_trained: ClassVar[bool] = False  # whether it trains the network that it makes
    paper: ClassVar[str] = ""  # authors, venue and year of the method
    needs: ClassVar[str] = ""  # what it needs besides images, in a few words

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Apply the `defaults` of the class; TypeError for an option that it does not inherit."""
        super().__pydantic_init_subclass__(**kwargs)
        defaults = cast("dict[str, Any]", vars(cls).get("defaults", {}))
        for name, default in defaults.items():
            if name not in cls.model_fields:
                hint = did_you_mean(name, cls.model_fields)
                raise TypeError(f"{cls.__name__}.defaults: unknown option '{name}'{hint}")
            cls.model_fields[name].default = default
        if defaults:
            cls.model_rebuild(force=True)

    def run(self, context: StageContext) -> None:
        """Read `context.inputs` and `context.images`; write the artifact to `context.folder`."""
        raise NotImplementedError

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption or ValueError for faults that the plan shows, without torch."""

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption or ValueError for faults that the labels of the images show.

        Called before the first stage runs, for stages that are to run, and by a dry run.
        """

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption or ValueError for faults that building the networks shows."""

    # Capabilities that other stages, the report and `compare` use.

    def backbone_spec(self) -> Backbone | None:
        """Return the network that it makes; None if it makes none."""
        return None

    def input_size(self) -> int | None:
        """Return the side in px of its network's input; None: that of the images it reads."""
        return None

    def starts_from_weights(self) -> bool:
        """Whether its network was trained elsewhere."""
        return False

    def protocol_name(self) -> str:
        """Return the part of an evaluation protocol's name that the options decide."""
        return ""

    def chance(self, dataset: DatasetInfo) -> float | None:
        """Return the accuracy of guessing, from 0 to 1; None for a task without accuracy."""
        return None

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """Return caption -> (B, 3, h, w): uint8 `images` (B, 3, S, S) as the network sees them."""
        raise NotImplementedError

    @classmethod
    def has_preview(cls) -> bool:
        """Whether the stage implements `preview`."""
        return cls.preview is not Stage.preview

    def output_space(self, planned: PlannedStage[Any]) -> Any:
        """Return a value that is equal for planned features that can be compared."""
        return planned.key

    def output_width(self, planned: PlannedStage[Any]) -> int | None:
        """Return the values per row of the planned features; None if the plan does not show it."""
        return None

    def prepared_from(self, planned: PlannedStage[Any]) -> list[PlannedStage[Any]]:
        """Return the features on which the steps of planned features were fitted, if any."""
        return []

    def source_model(self, planned: PlannedStage[Any]) -> PlannedStage[Any] | None:
        """Return the network of which planned features are an unchanged layer; None for others."""
        return None

    @classmethod
    def input_fields(cls) -> dict[str, str]:
        """Return input field -> the kind of artifact that it reads."""
        kinds = {name: input_kind(field) for name, field in cls.model_fields.items()}
        return {name: kind for name, kind in kinds.items() if kind}

    def identity(self) -> dict[str, Any]:
        """Return the options that the result depends on, defaults included, without the inputs."""
        return self.model_dump(mode="json", exclude={*self.input_fields()})

    def option_notes(self, given: Iterable[str]) -> list[str]:
        """Return notes on options of `given` that other options leave without effect."""
        notes: list[str] = []
        for name in given:
            for other, values in conditions(type(self).model_fields[name]).items():
                present = getattr(self, other)
                entries = cast("list[Any]", present if isinstance(present, list) else [present])
                if not any(entry in values for entry in entries):
                    notes.append(f"`{name}` has no effect unless {option_text(other, values)}")
        return notes

    def for_smoke_run(self) -> Stage:
        """Return a copy of this stage that is small enough to run in seconds."""
        changes: dict[str, Any] = {}
        for name, cap in self.smoke.items():
            value = getattr(self, name)
            if isinstance(cap, bool) or not isinstance(cap, (int, float)):
                changes[name] = cap
            elif value is not None:
                changes[name] = min(value, cap)
        return self.model_copy(update=changes)

    def changes_to(self, other: Stage) -> str:
        """Return the options that differ in `other`, as text: `k 200 → 20, iterations 20 → 3`."""
        before, after = self.identity(), other.identity()
        return ", ".join(
            f"{name} {inline_yaml(before[name])} → {inline_yaml(after[name])}"
            for name in before
            if before[name] != after[name]
        )


class ImagePack(Stage):
    """Base of the stage that packs an image set: facts that are known before packing."""

    split: str
    size: int  # side in px
    classes: list[str]

    @property
    def count(self) -> int:
        """The largest possible number of images."""
        raise NotImplementedError

    @property
    def set_name(self) -> str:
        """The source of the set, as named in the pipeline file."""
        raise NotImplementedError

    @property
    def is_labeled(self) -> bool:
        """Whether the images have labels."""
        raise NotImplementedError

    @property
    def set_figures(self) -> dict[str, Any]:
        """Figures of the image set as it is now: two sets may share their packed images."""
        return {}

    def changed_images(self, former: str) -> str:
        """Describe what changed since the images had the fingerprint `former`."""
        raise NotImplementedError

    def shares_ids(self, other: ImagePack) -> bool:
        """Whether equal ids are equal images in both sets."""
        raise NotImplementedError

    def dataset_info(self) -> DatasetInfo:
        """Return the facts that a pretext task may use."""
        return DatasetInfo(self.size, self.count, len(self.classes))


StageT = TypeVar("StageT", bound=Stage)


def images_input(role: str) -> str:
    """Return the name of the dependency on the images of a role."""
    return f"{role} images"


@dataclass(eq=False, repr=False)
class PlannedStage(Generic[StageT]):
    """A stage of a plan: its options, its dependencies, and the key of its artifact."""

    name: str
    uses: str
    stage: StageT
    seed: int = 0
    member: dict[str, Any] = field(default_factory=dict[str, Any])  # matrix variables it uses
    members: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])  # that share it
    inputs: dict[str, PlannedStage[Stage]] = field(default_factory=lambda: {})
    images: dict[str, PlannedStage[ImagePack]] = field(default_factory=lambda: {})
    note: str = ""  # for the user, such as a stand-in for a missing set
    smoke_limits: str = ""  # what a smoke run makes smaller: `k 200 → 20, iterations 20 → 3`
    expected: tuple[float, float] | None = None  # range of the main figure in the file, percent
    # Option -> FILE:LINE:COLUMN; "": the stage itself.
    marks: dict[str, str] = field(default_factory=dict[str, str])

    def __repr__(self) -> str:
        return f"PlannedStage({self.label!r}, uses={self.uses!r}, key={self.key!r})"

    @property
    def label(self) -> str:
        """Its name, with the matrix variables of its member: `clusters[k=200]`."""
        return f"{self.name}[{member_label(self.member)}]" if self.member else self.name

    @property
    def exact_label(self) -> str:
        """Its label; of packed images with the start of the key, in whatever part of a file."""
        suffix = f"@{self.key[:6]}"
        return f"{self.name.removesuffix(suffix)}{suffix}" if self.is_pack else self.label

    @property
    def is_pack(self) -> bool:
        """Whether it packs images; the plan adds such stages."""
        return isinstance(self.stage, ImagePack)

    @property
    def member_labels(self) -> list[set[str]]:
        """The variables of each member that shares it: {"k=200", "seed=0"}."""
        return [
            {member_label({name: value}) for name, value in member.items()}
            for member in self.members
        ]

    @property
    def dependencies(self) -> dict[str, PlannedStage[Any]]:
        """Name -> stage, of all stages that it reads."""
        packs = {images_input(role): pack for role, pack in self.images.items()}
        return {**self.inputs, **packs}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that its result depends on."""
        identity = {
            "stage": self.uses,
            "version": self.stage.version,
            "options": self.stage.identity(),
            "inputs": {name: planned.key for name, planned in self.dependencies.items()},
        }
        return identity | ({"seed": self.seed} if self.stage.seeded else {})

    @cached_property
    def key(self) -> str:
        """The key of its artifact in the store."""
        return key_for(self.identity)

    def mark(self, option: str = "") -> str:
        """Return the place of an option in the file, or else of the stage; empty without a file."""
        return self.marks.get(option) or self.marks.get("", "")


PlannedPack = PlannedStage[ImagePack]
