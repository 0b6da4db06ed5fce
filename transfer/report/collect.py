"""The stages of a report, with the artifacts that are intact and up to date."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from transfer.api import Pipeline
from transfer.artifacts import Artifact, Images, PseudoLabels
from transfer.errors import CorruptArtifact
from transfer.execution.status import StageStatus, find_manifest
from transfer.stage.base import PlannedStage
from transfer.stage.image_input import DatasetInfo
from transfer.stage.upstream import source_pack
from transfer.storage.manifest import MANIFEST, Manifest

ArtifactT = TypeVar("ArtifactT", bound=Artifact)


@dataclass(eq=False)
class ReportStage:
    """A planned stage with its status."""

    planned: PlannedStage[Any]
    status: StageStatus
    report: ReportData

    @property
    def label(self) -> str:
        """The stage with its member."""
        return self.planned.label

    @property
    def anchor(self) -> str:
        """The id of its provenance on the page."""
        return f"made-{self.planned.key}"

    @property
    def is_finished(self) -> bool:
        """Whether its artifact is up to date."""
        return isinstance(self, FinishedStage)


@dataclass(eq=False)
class FinishedStage(ReportStage):
    """A stage whose artifact is up to date."""

    manifest: Manifest
    verified: set[str] = field(default_factory=set)  # files that match the manifest

    @cached_property
    def folder(self) -> Path:
        """Of the artifact."""
        return self.report.pipeline.store.folder(self.planned.uses, self.planned.key)

    @cached_property
    def finished_at(self) -> datetime:
        """When the artifact was published, or copied into the store."""
        return datetime.fromtimestamp((self.folder / MANIFEST).stat().st_mtime)

    def checked(self, kind: type[ArtifactT], *names: str) -> ArtifactT:
        """Open the artifact after a check of the files that will be read.

        Args:
            kind: the class of the artifact.
            names: the files; CorruptArtifact where one is not what was written.
        """
        files = {
            name: self.manifest.files[name]
            for name in names
            if name in self.manifest.files and name not in self.verified
        }
        self.report.pipeline.store.check(self.folder, replace(self.manifest, files=files))
        self.verified.update(files)
        return kind(self.folder)


@dataclass
class ReportData:
    """All stages of a pipeline. `damaged`: label -> why an artifact is not shown."""

    pipeline: Pipeline
    stages: list[ReportStage] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def read(pipeline: Pipeline) -> ReportData:
        """Read the plan, the statuses and the manifests; no other file is opened."""
        report = ReportData(pipeline)
        for status in pipeline.statuses():
            planned = status.planned
            # An outdated artifact is not shown: it is the result of another pipeline.
            manifest = None if status.pending else find_manifest(pipeline.store, planned)
            report.stages.append(
                ReportStage(planned, status, report)
                if manifest is None
                else FinishedStage(planned, status, report, manifest)
            )
            if status.damaged:
                report.damaged[planned.label] = status.reason
        return report

    @cached_property
    def by_key(self) -> dict[str, ReportStage]:
        """Every stage by the key of its artifact."""
        return {stage.planned.key: stage for stage in self.stages}

    @property
    def methods(self) -> list[ReportStage]:
        """All stages but those that pack image sets."""
        return [stage for stage in self.stages if not stage.planned.is_pack]

    def finished(self, kind: type[Artifact]) -> list[FinishedStage]:
        """The finished stages that make this kind of artifact, in the plan's order."""
        return [
            stage
            for stage in self.methods
            if isinstance(stage, FinishedStage) and issubclass(stage.planned.stage.produces, kind)
        ]

    def images_of(self, planned: PlannedStage[Any]) -> FinishedStage | None:
        """The packed images of a stage, or of the nearest one upstream; None where not packed."""
        source = source_pack(planned)
        pack = None if source is None else self.by_key.get(source.key)
        return pack if isinstance(pack, FinishedStage) else None

    @staticmethod
    def open_images(pack: FinishedStage) -> Images:
        """Open packed images, to read their index and single images."""
        return pack.checked(Images, "index.h5", "images.json")

    @contextmanager
    def reading(self, stage: ReportStage) -> Iterator[None]:
        """Record damage that is met, so that the rest of the page is still made."""
        try:
            yield
        except CorruptArtifact as error:
            self.damaged[stage.label] = str(error)

    def command(self, command: str, *arguments: str) -> str:
        """A command line for the same file, store and changes."""
        file = str(self.pipeline.plan.file)
        return shlex.join(["transfer", command, file, *arguments, *self.pipeline.flags])

    def chance(self, stage: FinishedStage) -> float | None:
        """The accuracy of guessing in a training, from 0 to 1; None where it is unknown."""
        sources = [
            self.by_key[planned.key]
            for planned in stage.planned.inputs.values()
            if issubclass(planned.stage.produces, PseudoLabels)
        ]
        labels = [source for source in sources if isinstance(source, FinishedStage)]
        if labels and len(labels) == len(sources):
            return sum(1 / max(1, _label_count(source)) for source in labels) / len(labels)
        pack = self.images_of(stage.planned)
        if pack is None:
            return None
        images = self.open_images(pack)
        dataset = DatasetInfo(images.size, len(images), len(images.classes))
        try:
            return stage.planned.stage.chance(dataset)
        except Exception:  # a plug-in's task may need more than a report knows
            return None


def _label_count(labels: FinishedStage) -> int:
    """The number of pseudo-labels."""
    count = labels.manifest.figures.get("labels", 0)
    return count or labels.checked(PseudoLabels, "labels.h5").count
