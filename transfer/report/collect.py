"""What a report is made of: every stage of a plan with what it made, read only where it is whole and up to date."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from transfer.api import Pipeline
from transfer.artifacts import KINDS, Artifact, Images, PseudoLabels
from transfer.errors import CorruptArtifact
from transfer.execution.status import StageStatus, find_manifest
from transfer.stage.base import PlannedStage, source_pack
from transfer.storage.manifest import MANIFEST, Manifest
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.formatting import member_label
from transfer.utils.lazy_imports import np, torch

MEMBERS = 4  # of a matrix, whose pictures are shown


@dataclass(eq=False)
class ReportStage:
    """A planned stage, how it stands, and what it made if that can be shown."""

    planned: PlannedStage
    state: StageStatus
    manifest: Manifest | None
    report: ReportData
    sound: set[str] = field(default_factory=set)  # files that were compared with the manifest

    @property
    def label(self) -> str:
        return self.planned.label

    @property
    def anchor(self) -> str:
        """The id of its provenance on the page."""
        return f"made-{self.planned.key}"

    @property
    def made(self) -> bool:
        return self.manifest is not None

    @cached_property
    def when(self) -> datetime:
        """When it was published; of an artifact that was copied from elsewhere, when it was copied."""
        folder = self.report.pipeline.store.folder(self.planned.uses, self.planned.key)
        return datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime)

    @cached_property
    def artifact(self) -> Artifact:
        store, one = self.report.pipeline.store, self.planned
        return KINDS[self.manifest.produces](store.folder(one.uses, one.key))

    def checked(self, *names: str) -> Artifact:
        """The artifact, after these of its files were compared with what was written; Damaged where they differ."""
        files = {
            name: self.manifest.files[name]
            for name in names
            if name in self.manifest.files.keys() - self.sound
        }
        self.report.pipeline.store.check(self.artifact.folder, replace(self.manifest, files=files))
        self.sound.update(files)
        return self.artifact


@dataclass
class ReportData:
    """All stages of a pipeline. `damaged`: label -> what could not be read and is therefore not shown."""

    pipeline: Pipeline
    stages: list[ReportStage] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def read(pipeline: Pipeline) -> ReportData:
        """Plan, states and manifests; no other file is opened."""
        found = ReportData(pipeline)
        for state in pipeline.statuses():
            # What no longer fits what it was made from is not shown: it would be another pipeline's result.
            manifest = None if state.pending else find_manifest(pipeline.store, state.planned)
            found.stages.append(ReportStage(state.planned, state, manifest, found))
            if state.damaged:
                found.damaged[state.planned.label] = state.reason
        return found

    @cached_property
    def by_key(self) -> dict[str, ReportStage]:
        return {one.planned.key: one for one in self.stages}

    @property
    def methods(self) -> list[ReportStage]:
        """All but the packing of image sets."""
        return [one for one in self.stages if one.planned.is_pack is False]

    def of(self, kind: type[Artifact]) -> list[ReportStage]:
        """The finished stages that make this kind of artifact, in the plan's order."""
        return [
            one for one in self.methods if one.made and issubclass(one.planned.stage.produces, kind)
        ]

    def images_of(self, one: PlannedStage) -> ReportStage | None:
        """The packed images that a stage, or the nearest before it that reads any, was given."""
        planned = source_pack(one)
        pack = None if planned is None else self.by_key.get(planned.key)
        return pack if pack is not None and pack.made else None

    def opened(self, pack: ReportStage) -> Images:
        """Packed images; what is read of them is the index, and single pictures."""
        return pack.checked("index.h5", "images.json")

    @contextmanager
    def reading(self, one: ReportStage) -> Iterator[None]:
        """What is damaged is told and left out; the rest of the page is made."""
        try:
            yield
        except CorruptArtifact as error:
            self.damaged[one.label] = str(error)

    def command(self, *words: str) -> str:
        """A command on the same file, store and changes."""
        return shlex.join(
            ["transfer", words[0], str(self.pipeline.plan.file), *words[1:], *self.pipeline.flags]
        )

    def chance(self, one: ReportStage) -> float | None:
        """The accuracy of guessing in a training, as far as its stage can say."""
        labels = [
            self.by_key[other.key]
            for other in one.planned.inputs.values()
            if issubclass(other.stage.produces, PseudoLabels)
        ]
        if labels and all(taught.made for taught in labels):
            counts = [
                one.manifest.figures.get("labels", 0) or one.checked("labels.h5").count
                for one in labels
            ]
            return sum(1 / max(1, count) for count in counts) / len(counts)
        pack = self.images_of(one.planned)
        if pack is None:
            return None
        from transfer.stage.base import DatasetInfo

        images = self.opened(pack)
        try:
            return one.planned.stage.chance(
                DatasetInfo(images.size, len(images), len(images.classes))
            )
        except Exception:  # a stranger's task may need more than a report knows
            return None


def by_name(stages: Iterable[ReportStage]) -> dict[str, list[ReportStage]]:
    """Stage name -> its members."""
    groups: dict[str, list[ReportStage]] = {}
    for one in stages:
        groups.setdefault(one.planned.name, []).append(one)
    return groups


def apart(stages: Sequence[PlannedStage], without: Sequence[str] = ()) -> list[str]:
    """A short name for each: the matrix variables in which they differ, or the stage's name where there is none."""
    names = dict.fromkeys(name for one in stages for name in one.member if name not in without)
    differ = [name for name in names if len({str(one.member.get(name)) for one in stages}) > 1]
    told = [
        member_label({name: one.member[name] for name in differ if name in one.member})
        for one in stages
    ]
    return [one or stage.name for one, stage in zip(told, stages, strict=True)]


def chosen(
    stages: Sequence[ReportStage], count: int = MEMBERS
) -> tuple[list[ReportStage], list[ReportStage]]:
    """Some that stand for all, spread over the matrix, and those that are left out."""
    if len(stages) <= count:
        return list(stages), []
    places = {round(i * (len(stages) - 1) / (count - 1)) for i in range(count)}
    return [stages[i] for i in sorted(places)], [
        one for i, one in enumerate(stages) if i not in places
    ]


def left_out(report: ReportData, stages: Sequence[ReportStage]) -> dict[str, Any] | None:
    """How many members are not shown, and a command that shows one of them."""
    if not stages:
        return None
    member = next((one.planned.member for one in stages if one.planned.member), {})
    words = [f"--set=matrix.{name}=[{value}]" for name, value in member.items()]
    return {"count": len(stages), "command": report.command("report", *words, "-o", "member.html")}


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` rows of `count`, evenly spread: a set may be sorted by class."""
    return (
        [i * count // wanted for i in range(min(wanted, count))]
        if count >= wanted
        else list(range(count))
    )


def drawn(count: int, wanted: int, seed: int = 0) -> list[int]:
    """`wanted` of `count` rows at random, the same for the same seed, in ascending order."""
    order = PerImageRng(seed, torch.arange(1)).permutations(count)[0] if count else torch.arange(0)
    return np.sort(order[:wanted].numpy()).tolist()
