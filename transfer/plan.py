"""A plan: the stages of a pipeline with what each stands on and the key of what it makes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from transfer.document import Node
from transfer.errors import UsageError, nearest
from transfer.images.spec import ImageSpec
from transfer.manifest import key_of
from transfer.stage import Stage
from transfer.variables import label

COMMON = {
    "uses": "which method: see `transfer list stages`",
    "data": "another image set for this stage than the pipeline's",
    "seed": "another seed for this stage than the pipeline's",
}


Percent = Annotated[float, Field(ge=0, le=100)]
Span = Annotated[list[Percent], Field(min_length=2, max_length=2)]


class Header(BaseModel):
    """What stands at the head of a pipeline file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = Field(None, description="what the pipeline is called; the file's name if absent")
    seed: int = Field(0, ge=0, lt=2**32, description="every stage that draws anything draws from this")
    data: ImageSpec | None = Field(None, description="the image set of all stages that name none of their own")
    expected: dict[str, Span] = Field(
        default_factory=dict,
        description="stage -> [low, high]: its main figure over seeds and processors, in percent",
    )


@dataclass(eq=False)
class Planned:
    """A stage of a plan: what it is, what it stands on, and the key of what it makes."""

    name: str
    uses: str
    stage: Stage
    seed: int = 0
    member: dict[str, Any] = field(default_factory=dict)  # the matrix variables that it depends on
    members: list[dict[str, Any]] = field(default_factory=list)  # of all members that share it, as they are written
    inputs: dict[str, Planned] = field(default_factory=dict)
    images: dict[str, Planned] = field(default_factory=dict)
    data: ImageSpec | None = None  # what the file says of its images
    note: str = ""  # what a person must know of it, such as a stand-in for a set that is not there
    node: Node | None = None
    expected: list[float] | None = None  # the range that its file says of the main figure

    @property
    def label(self) -> str:
        return f"{self.name}[{label(self.member)}]" if self.member else self.name

    @property
    def values(self) -> list[set[str]]:
        """The variables of each member that it is made for, as a label writes them: {"k=200", "seed=0"}."""
        return [{label({name: value}) for name, value in member.items()} for member in self.members]

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


def up_to(one: Planned, images: bool = False) -> list[Planned]:
    """All that a stage stands on, each after all that it reads, and itself last; with `images` their packing too."""
    found: dict[str, Planned] = {}

    def visit(one: Planned) -> None:
        if one.key in found:
            return
        for other in (one.before if images else one.inputs).values():
            visit(other)
        found[one.key] = one

    visit(one)
    return list(found.values())


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

    def narrowed(self, names: Sequence[str]) -> Plan:
        """The stages that are called so, and what they stand on, as a plan of their own; all, where none is named."""
        if not names:
            return self
        kept = {one for name in names for last in self.find(name) for one in up_to(last, images=True)}
        groups = {name: [one for one in members if one in kept] for name, members in self.names.items()}
        stages = [one for one in self.stages if one in kept]
        return replace(self, stages=stages, names={name: members for name, members in groups.items() if members})

    def find(self, name: str) -> list[Planned]:
        """The stages called `name`, or with that key, or whose members have the values in `name[k=200,seed=0]`.

        UsageError names what is nearest.
        """
        found = self.names.get(name) or [one for one in self.stages if name in (one.label, one.key)]
        stage, _, text = name.partition("[")
        # A comma parts two variables only where another one follows it: values may have commas.
        values = set(re.split(r",\s*(?=\w+=)", text[:-1])) if text.endswith("]") else {f"[{text}"}
        found = found or [one for one in self.names.get(stage, []) if any(values <= member for member in one.values)]
        if not found:
            raise UsageError(f"{self.file}: no stage '{name}'{self._instead(stage, values)}")
        return found

    def _instead(self, stage: str, values: set[str]) -> str:
        """What may be meant by the name of a stage with values that no member has."""
        if stage not in self.names:
            return nearest(stage, self.names)
        known = {value for one in self.names[stage] for values in one.values for value in values}
        for value in sorted(values - known):
            return f": {stage} has no member with '{value}'{nearest(value, known)}"
        return f": {stage} has members with each of these values, and none with all"
