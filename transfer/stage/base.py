"""Stage: one step of a pipeline, with its options, its typed inputs and the artifact that it makes.

A stage is a class whose annotated fields are its options and inputs. `transfer list`, messages, the
JSON Schema and the store's keys are all made from these fields:

    class Cluster(Stage):
        produces = Clusters
        features: str = stage_input(Features, "the features to cluster")
        k: int = option(2000, "number of clusters", ge=2)

        def run(self, context: StageContext) -> None:
            features = context.inputs["features"]
            ...

A stage knows nothing of caching, locking or where it runs: `context` has all of that (`context.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from transfer.artifacts import Artifact
from transfer.stage.options import conditions, input_kind, option_text
from transfer.storage.manifest import key_for
from transfer.utils.formatting import member_label

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.backbone import Backbone
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

PACK = "images"  # the `uses:` word of the stages that pack image sets; no file can write it


class ImageInput:
    """Which images a stage reads where the pipeline file does not say.

    Args:
        split: the split that is looked for first. A set without `unlabeled` gives its `train`; a
            set of one split gives that.
        same_as: an input whose images are taken instead, such as pseudo-labels, which know theirs.
        needs_labels: a split without labels is refused.
    """

    def __init__(self, split: str, same_as: str | None = None, needs_labels: bool = False):
        self.split, self.same_as, self.needs_labels = split, same_as, needs_labels


@dataclass(frozen=True)
class DatasetInfo:
    """Facts of packed images that a stage may use before it has seen one."""

    size: int  # side in px
    count: int  # images
    classes: int  # of the labels; 0 without


class Stage(BaseModel):
    """Base of all stages. Subclass it, or a base in `transfer/training`, and write `run`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    produces: ClassVar[type[Artifact]]
    version: ClassVar[int] = 1  # raise it when the same options give another result
    seeded: ClassVar[bool] = True  # False: nothing is drawn, so the seed is no part of the key
    images: ClassVar[dict[str, ImageInput]] = {}  # role -> which images; empty: it reads none
    smoke: ClassVar[dict[str, Any]] = {}  # caps of `--smoke`: numbers from above, others replaced
    # Option that names a file -> changes that `--smoke` makes where that file is missing.
    stand_ins: ClassVar[dict[str, dict[str, Any]]] = {}
    is_trained: ClassVar[bool] = False  # whether it trains the network that it makes
    paper: ClassVar[str] = ""  # who proposed the method, and where
    needs: ClassVar[str] = ""  # what it needs beyond images, in a few words

    def run(self, context: StageContext) -> None:
        """Read `context.inputs` and `context.images`, and write the artifact into `context.folder`."""
        raise NotImplementedError

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption or ValueError for faults that the plan shows; must not import torch."""

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption or ValueError for faults that building the networks shows."""

    # What other stages, the report and `compare` may ask of any stage.

    def backbone_spec(self) -> Backbone | None:
        """The network that it makes; None where it makes none."""
        return None

    def input_size(self) -> int | None:
        """Side in px that its network is fed; None: that of the images it reads."""
        return None

    def starts_from_weights(self) -> bool:
        """Whether its network was trained elsewhere."""
        return False

    def protocol_name(self) -> str:
        """The name of an evaluation protocol, as far as the options give it; empty for others."""
        return ""

    def chance(self, dataset: DatasetInfo) -> float | None:
        """The accuracy of guessing, from 0 to 1; None for a task without an accuracy."""
        return None

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """Caption -> (B, 3, h, w): uint8 `images` (B, 3, S, S) on their way into the network."""
        raise NotImplementedError

    @classmethod
    def has_preview(cls) -> bool:
        """Whether `preview` is written."""
        return cls.preview is not Stage.preview

    def output_space(self, planned: PlannedStage[Any]) -> Any:
        """What planned features must agree in to be compared."""
        return planned.key

    def output_width(self, planned: PlannedStage[Any]) -> int | None:
        """Values of a row of the planned features; None where the plan does not show it."""
        return None

    def prepared_from(self, planned: PlannedStage[Any]) -> list[PlannedStage[Any]]:
        """The features on which the steps of planned features were fitted; empty without steps."""
        return []

    def source_model(self, planned: PlannedStage[Any]) -> PlannedStage[Any] | None:
        """The network of which planned features are one layer, unchanged; None for others."""
        return None

    @classmethod
    def input_fields(cls) -> dict[str, str]:
        """Field name -> name of the artifact kind that it reads."""
        kinds = {name: input_kind(field) for name, field in cls.model_fields.items()}
        return {name: kind for name, kind in kinds.items() if kind}

    def identity(self) -> dict[str, Any]:
        """The options that the result depends on, with defaults; keys stand for the inputs."""
        return self.model_dump(mode="json", exclude={*self.input_fields()})

    def ineffective_options(self, given: Iterable[str]) -> list[str]:
        """A note for each of the options `given` that another option leaves without effect."""
        notes = []
        for name in given:
            for other, values in conditions(type(self).model_fields[name]).items():
                present = getattr(self, other)
                entries = present if isinstance(present, list) else [present]
                if not any(entry in values for entry in entries):
                    notes.append(f"`{name}` has no effect unless {option_text(other, values)}")
        return notes

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


class ImagePack(Stage):
    """Base of the stage that packs an image set: facts of the images, known before they are packed."""

    split: str
    size: int  # side in px
    classes: list[str]

    @property
    def count(self) -> int:
        """How many images there will be, at most."""
        raise NotImplementedError

    @property
    def set_name(self) -> str:
        """Where the set comes from, as the pipeline file has it."""
        raise NotImplementedError

    @property
    def is_labeled(self) -> bool:
        """Whether the images have labels."""
        raise NotImplementedError

    def shares_ids(self, other: ImagePack) -> bool:
        """Whether an id stands for the same image in both."""
        raise NotImplementedError

    def dataset_info(self) -> DatasetInfo:
        """The facts that a pretext task may use."""
        return DatasetInfo(self.size, self.count, len(self.classes))


StageT = TypeVar("StageT", bound=Stage)


def images_input(role: str) -> str:
    """The name under which a stage reads the images of a role, beside its inputs."""
    return f"{role} images"


@dataclass(eq=False)
class PlannedStage(Generic[StageT]):
    """A stage of a plan: its options, the stages that it depends on, and the key of its artifact."""

    name: str
    uses: str
    stage: StageT
    seed: int = 0
    member: dict[str, Any] = field(default_factory=dict)  # matrix variables that it depends on
    members: list[dict[str, Any]] = field(default_factory=list)  # of all members that share it
    inputs: dict[str, PlannedStage[Stage]] = field(default_factory=dict)
    images: dict[str, PlannedStage[ImagePack]] = field(default_factory=dict)
    note: str = ""  # what the user must know, such as a stand-in for a set that is missing
    expected: tuple[float, float] | None = None  # range of the main figure in the file, percent
    marks: dict[str, str] = field(default_factory=dict)  # option -> FILE:LINE:COLUMN; "": the stage

    @property
    def label(self) -> str:
        return f"{self.name}[{member_label(self.member)}]" if self.member else self.name

    @property
    def is_pack(self) -> bool:
        """Whether it packs images; such stages are not in the pipeline file."""
        return isinstance(self.stage, ImagePack)

    @property
    def member_labels(self) -> list[set[str]]:
        """The variables of each member that it is made for: {"k=200", "seed=0"}."""
        return [
            {member_label({name: value}) for name, value in member.items()}
            for member in self.members
        ]

    @property
    def dependencies(self) -> dict[str, PlannedStage[Any]]:
        """Everything that it reads, by the name under which it reads it."""
        packs = {images_input(role): pack for role, pack in self.images.items()}
        return {**self.inputs, **packs}

    @property
    def identity(self) -> dict[str, Any]:
        """All that its result depends on."""
        identity = {
            "stage": self.uses,
            "version": self.stage.version,
            "options": self.stage.identity(),
            "inputs": {name: planned.key for name, planned in self.dependencies.items()},
        }
        return identity | ({"seed": self.seed} if self.stage.seeded else {})

    @cached_property
    def key(self) -> str:
        """The name of its artifact's folder in the store."""
        return key_for(self.identity)

    def mark(self, option: str = "") -> str:
        """Where the file has an option, or else the stage; empty without a file."""
        return self.marks.get(option) or self.marks.get("", "")


PlannedPack = PlannedStage[ImagePack]


def upstream_stages(planned: PlannedStage[Any], images: bool = False) -> list[PlannedStage[Any]]:
    """All dependencies of a stage in topological order, ending with it; `images`: packs too."""
    ordered: dict[str, PlannedStage[Any]] = {}

    def visit(planned: PlannedStage[Any]) -> None:
        if planned.key in ordered:
            return
        for dependency in (planned.dependencies if images else planned.inputs).values():
            visit(dependency)
        ordered[planned.key] = planned

    visit(planned)
    return list(ordered.values())


def source_pack(planned: PlannedStage[Any]) -> PlannedPack | None:
    """The packed images of a stage, or of the nearest one upstream; None where none reads any."""
    while not planned.images:
        if not planned.inputs:
            return None
        planned = next(iter(planned.inputs.values()))
    return next(iter(planned.images.values()))
