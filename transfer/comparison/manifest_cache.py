"""The manifests of a store, each read once, and what they say about the lineage of a score."""

from __future__ import annotations

from typing import Any

from transfer.comparison.lineage import Lineage
from transfer.execution.open_pipeline import OpenPipeline
from transfer.execution.status import find_manifest
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage
from transfer.storage.manifest import Manifest


class ManifestCache:
    """A store whose manifests are read once."""

    def __init__(self, pipeline: OpenPipeline):
        self.store = pipeline.store
        self._manifests: dict[str, Manifest | None] = {}
        self._last_runs: dict[str, dict[str, Any]] = {}

    def manifest(self, planned: PlannedStage[Any]) -> Manifest | None:
        """The manifest of a stage; None where it is missing or damaged."""
        if planned.key not in self._manifests:
            self._manifests[planned.key] = find_manifest(self.store, planned)
        return self._manifests[planned.key]

    def last_run(self, plan: Plan) -> dict[str, Any]:
        """Stage label -> what pipelines of this name made last."""
        if plan.name not in self._last_runs:
            self._last_runs[plan.name] = self.store.last_run(plan.name)
        return self._last_runs[plan.name]

    def outdated_input(self, lineage: Lineage) -> tuple[str, str] | None:
        """The first stage, and its input, whose bytes changed after the stage read them."""
        for planned in [*lineage.stages, lineage.score]:
            manifest = self.manifest(planned)
            if manifest is None:
                continue
            for name, source in planned.dependencies.items():
                present, recorded = self.manifest(source), manifest.inputs.get(name)
                if present is None or recorded is None:
                    continue
                if recorded["digest"] != present.digest:
                    return planned.name, name
        return None

    def pipeline_seconds(self, lineage: Lineage) -> float | None:
        """Seconds of all stages up to the evaluated one; None where a manifest is missing."""
        total = 0.0
        for planned in lineage.stages:
            manifest = self.manifest(planned)
            if manifest is None:
                return None
            total += manifest.seconds
        return total

    def training_seconds(self, lineage: Lineage) -> float | None:
        """Seconds of training the evaluated network.

        0 where it was not trained, None where its manifest is missing.
        """
        planned = lineage.evaluated_model
        manifest = None if planned is None else self.manifest(planned)
        if planned is None or manifest is None:
            return None
        return manifest.seconds if planned.stage.is_trained else 0.0

    def training_images(self, lineage: Lineage) -> int | None:
        """The number of images that its networks were trained on; None for published weights."""
        if any(planned.stage.starts_from_weights() for planned in lineage.teachers):
            return None
        total = 0
        for pack in lineage.training_packs:
            manifest = self.manifest(pack)
            count = pack.stage.count
            total += count if manifest is None else manifest.figures.get("images", count)
        return total
