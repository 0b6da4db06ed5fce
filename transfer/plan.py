"""A plan: the stages of a pipeline with what each stands on and the key of what it makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from transfer.document import Node, label
from transfer.errors import UsageError, nearest
from transfer.images.spec import ImageSpec
from transfer.stage import Stage
from transfer.store import key_of

COMMON = {
    "uses": "which method: see `transfer list stages`",
    "data": "another image set for this stage than the pipeline's",
    "seed": "another seed for this stage than the pipeline's",
}


class Header(BaseModel):
    """What stands at the head of a pipeline file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = Field(None, description="what the pipeline is called; the file's name if absent")
    seed: int = Field(0, ge=0, lt=2**32, description="every stage that draws anything draws from this")
    data: ImageSpec | None = Field(None, description="the image set of all stages that name none of their own")


@dataclass(eq=False)
class Planned:
    """A stage of a plan: what it is, what it stands on, and the key of what it makes."""

    name: str
    uses: str
    stage: Stage
    seed: int = 0
    member: dict[str, Any] = field(default_factory=dict)  # the matrix variables that it depends on
    inputs: dict[str, Planned] = field(default_factory=dict)
    images: dict[str, Planned] = field(default_factory=dict)
    data: ImageSpec | None = None  # what the file says of its images
    note: str = ""  # what a person must know of it, such as a stand-in for a set that is not there
    node: Node | None = None

    @property
    def label(self) -> str:
        return f"{self.name}[{label(self.member)}]" if self.member else self.name

    @property
    def values(self) -> set[str]:
        """The variables of its member, each as its label writes it."""
        return {label({variable: value}) for variable, value in self.member.items()}

    @property
    def before(self) -> dict[str, Planned]:
        """Everything that it reads, by the name it is read under."""
        return {**self.inputs, **{f"{role} images": pack for role, pack in self.images.items()}}

    @property
    def identity(self) -> dict[str, Any]:
        identity = {
            "stage": self.uses,
            "version": self.stage.version,
            "options": self.stage.identity(),
            "inputs": {name: one.key for name, one in self.before.items()},
        }
        return identity | ({"seed": self.seed} if self.stage.seeded else {})

    @property
    def key(self) -> str:
        if not hasattr(self, "_key"):
            self._key = key_of(self.identity)
        return self._key


def pack_of(one: Planned) -> Planned | None:
    """The packed images that a stage, or the nearest before it that reads any, is given; None where none does."""
    while not one.images:
        if not one.inputs:
            return None
        one = next(iter(one.inputs.values()))
    return next(iter(one.images.values()))


@dataclass
class Plan:
    """The stages of all members, each after all that it reads; a stage that members share stands here once."""

    name: str
    file: Path
    stages: list[Planned]
    names: dict[str, list[Planned]]  # stage name -> one a member
    smoke: bool = False

    def __iter__(self) -> Iterator[Planned]:
        return iter(self.stages)

    def find(self, name: str) -> list[Planned]:
        """The stages called `name`, or with that key, or whose members have the values in `name[k=200,seed=0]`.

        UsageError names what is nearest.
        """
        found = self.names.get(name) or [one for one in self.stages if name in (one.label, one.key)]
        stage, bracket, values = name.removesuffix("]").partition("[")
        if not found and bracket and name.endswith("]"):
            found = [one for one in self.names.get(stage, []) if set(values.split(",")) <= one.values]
        if not found:
            known = [one.label for one in self.names[stage]] if stage in self.names else self.names
            raise UsageError(f"{self.file}: no stage '{name}'{nearest(name, known)}")
        return found
