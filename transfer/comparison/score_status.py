"""A score of a pipeline file, finished or pending."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from transfer.artifacts import Scores
from transfer.artifacts.scores import ScoreCard
from transfer.comparison.lineage import Lineage
from transfer.execution.open_pipeline import OpenPipeline
from transfer.stage.base import PlannedStage
from transfer.storage.manifest import Manifest

if TYPE_CHECKING:
    import numpy

SCORES_CARD, SCORES_TABLE = "scores.json", "scores.h5"


class PendingReason(Enum):
    """Why a score cannot be compared."""

    NOT_MADE = "it was never made"
    OUTDATED = "its settings, or what it depends on, changed"
    OLD_FORMAT = "its card names no main figure"
    DAMAGED = "its files are not what was written"


@dataclass(eq=False)
class PlannedScore:
    """An evaluation stage of a pipeline file."""

    pipeline: OpenPipeline
    planned: PlannedStage[Any]
    prefix: str  # `FILE: ` where several files are compared

    @property
    def label(self) -> str:
        """The stage with its member, after its file where several are compared."""
        return self.prefix + self.planned.label

    @cached_property
    def lineage(self) -> Lineage:
        """The stages that it depends on."""
        return Lineage(self.planned)

    @property
    def protocol(self) -> str:
        """The name of the protocol, as far as the plan gives it."""
        return self.planned.stage.protocol_name() or self.planned.uses.removeprefix("evaluate/")


@dataclass(eq=False)
class PendingScore(PlannedScore):
    """A score that is missing, outdated, damaged or of an old format."""

    reason: PendingReason
    text: str  # the reason in words


@dataclass(eq=False)
class FinishedScore(PlannedScore):
    """A score that can be compared: its card names a main figure."""

    manifest: Manifest
    card: ScoreCard

    @property
    def protocol(self) -> str:
        """The name of the protocol, as the scores give it."""
        return self.card.protocol

    @property
    def main(self) -> str:
        """The name of the main figure."""
        return self.card.main

    @property
    def figures(self) -> dict[str, float]:
        """Every figure of the protocol by its name."""
        return self.card.figures

    @property
    def intervals(self) -> dict[str, list[float]]:
        """Figure -> [low, high], 95 %, over the test images."""
        return self.card.intervals

    @property
    def value(self) -> float:
        """The main figure."""
        return float(self.figures[self.main])

    @property
    def selected_layer(self) -> str | None:
        """The layer that the main figure is of; None where the protocol selects none."""
        return self.card.selected.get("layer")

    def outcomes(self) -> numpy.ndarray | None:
        """The contribution of each test image to the main figure; CorruptArtifact if damaged."""
        if SCORES_TABLE not in self.manifest.files:
            return None
        store = self.pipeline.store
        folder = store.folder(self.planned.uses, self.planned.key)
        files = {SCORES_TABLE: self.manifest.files[SCORES_TABLE]}
        store.check(folder, replace(self.manifest, files=files), thorough=True)
        return Scores(folder).outcomes(self.main)
