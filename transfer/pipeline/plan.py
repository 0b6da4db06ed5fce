"""A plan: the stages of a pipeline file in topological order, for all members of its matrix."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from transfer.datasets.spec import ImageSpec
from transfer.errors import UsageError, did_you_mean
from transfer.stage.base import PlannedStage, Stage
from transfer.stage.upstream import upstream_stages
from transfer.utils.repr_tables import ReprTable

COMMON_OPTIONS = {
    "uses": "the method: see `transfer list stages`",
    "data": "the image set of this stage, instead of the pipeline's",
    "seed": "the seed of this stage, instead of the pipeline's",
}


def common_options(kind: type[Stage] | None) -> dict[str, str]:
    """Return the options that any stage has, as far as they have an effect on this kind."""
    effective = {"data": kind is None or bool(kind.images), "seed": kind is None or kind.seeded}
    return {name: help for name, help in COMMON_OPTIONS.items() if effective.get(name)}


Percent = Annotated[float, Field(ge=0, le=100)]
Span = Annotated[list[Percent], Field(min_length=2, max_length=2)]


class PipelineHeader(BaseModel):
    """The keys at the head of a pipeline file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = Field(
        default=None, description="the pipeline's name; by default that of the file"
    )
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="the seed of all stages that draw random numbers"
    )
    data: ImageSpec | None = Field(
        default=None, description="the image set of all stages without their own"
    )
    expected: dict[str, Span] = Field(
        default_factory=dict,
        description="stage -> [low, high]: its main figure over seeds and processors, in percent",
    )


@dataclass(repr=False)
class Plan:
    """The stages of all members, each after its dependencies; members share equal stages."""

    name: str
    file: Path
    stages: list[PlannedStage[Any]]
    names: dict[str, list[PlannedStage[Any]]]  # stage name -> its members
    smoke: bool = False
    sets: Sequence[str] = ()  # the `--set`s that replaced values of the file
    digest: str = ""  # the sha256 of the file's bytes

    def __iter__(self) -> Iterator[PlannedStage[Any]]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> ReprTable:
        rows = [
            (
                planned.label,
                planned.uses,
                planned.stage.produces.__name__,
                ", ".join(dict.fromkeys(source.label for source in planned.dependencies.values())),
            )
            for planned in self
        ]
        smoke = "smoke run of " if self.smoke else ""
        caption = f"stages of {smoke}{self.name} ({self.file})"
        return ReprTable(caption, ("stage", "uses", "artifact", "reads"), rows)

    def narrowed(self, names: Sequence[str]) -> Plan:
        """Return the plan of the named stages and their dependencies; all where none is named."""
        if not names:
            return self
        kept = {
            planned
            for name in names
            for last in self.find(name)
            for planned in upstream_stages(last, images=True)
        }
        groups = {
            name: [planned for planned in members if planned in kept]
            for name, members in self.names.items()
        }
        return replace(
            self,
            stages=[planned for planned in self.stages if planned in kept],
            names={name: members for name, members in groups.items() if members},
        )

    def find(self, name: str) -> list[PlannedStage[Any]]:
        """Return the stages with a name, label or key, or with the values in `name[k=200,seed=0]`.

        Raises UsageError with the nearest one where none matches.
        """
        matches = self.names.get(name) or [
            planned
            for planned in self.stages
            if name in (planned.label, planned.exact_label, planned.key)
        ]
        stage, _, text = name.partition("[")
        # A comma separates two variables only before the next `name=`: values may hold commas.
        values = set(re.split(r",\s*(?=\w+=)", text[:-1])) if text.endswith("]") else {f"[{text}"}
        matches = matches or [
            planned
            for planned in self.names.get(stage, [])
            if any(values <= member for member in planned.member_labels)
        ]
        if not matches:
            raise UsageError(f"{self.file}: no stage '{name}'{self._suggestion(stage, values)}")
        return matches

    def _suggestion(self, stage: str, values: set[str]) -> str:
        """Return what may be meant by a name that no stage or member has."""
        if stage not in self.names:
            return did_you_mean(stage, self.names)
        known = {
            value
            for planned in self.names[stage]
            for labels in planned.member_labels
            for value in labels
        }
        for value in sorted(values - known):
            return f": {stage} has no member with '{value}'{did_you_mean(value, known)}"
        return f": {stage} has members with each of these values, but none with all of them"
