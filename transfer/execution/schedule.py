"""The order of a run's stages, and the seconds that they took before, for the time left."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from transfer.errors import CorruptArtifact
from transfer.execution.status import find_manifest
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage
from transfer.stage.run_place import RunPlace
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store


class Schedule:
    """The stages that a run still has to make, and how long each is expected to take.

    A stage is expected to take as long as the same stage took on this hardware: one with the same
    method, options and images. Seeds and inputs may differ, so one member of a matrix gives the
    time of the others. A training with other epochs takes a time in proportion.

    Args:
        hardware: device, precision and threads, as manifests record them.
    """

    def __init__(self, hardware: dict[str, Any]):
        self.hardware, self.begun, self.total = hardware, 0, 0
        self._waiting: dict[str, PlannedStage[Any]] = {}
        self._seconds: dict[str, float] = {}  # work -> seconds of an epoch, or of the stage

    def plan(self, plan: Plan, store: Store, pending: Iterable[PlannedStage[Any]]) -> None:
        """Take the stages to make, and the seconds that the store has recorded.

        Args:
            plan: all stages of the file.
            store: with the results of earlier runs.
            pending: the stages to make.
        """
        self._waiting = {planned.key: planned for planned in pending}
        self.total = len(self._waiting)
        for fact in store.last_run(plan.name).values():
            try:
                manifest = store.find(fact["uses"], fact["key"])
            except CorruptArtifact:
                continue
            self.record(manifest)
        for planned in plan:
            self.record(find_manifest(store, planned))

    def begin(self, planned: PlannedStage[Any]) -> RunPlace:
        """Return the place of a stage that begins now."""
        self._waiting.pop(planned.key, None)
        self.begun += 1
        # A stage that is made again because an input changed was not among those to make.
        self.total = max(self.total, self.begun + len(self._waiting))
        later = [self._expected(other) for other in self._waiting.values()]
        known = [seconds for seconds in later if seconds is not None]
        later_seconds = sum(known) if len(known) == len(later) else None
        return RunPlace(self.begun, self.total, self._expected(planned), later_seconds)

    def skip(self, planned: PlannedStage[Any]) -> None:
        """Remove a stage that is not made after all."""
        if self._waiting.pop(planned.key, None):
            self.total -= 1

    def record(self, manifest: Manifest | None) -> None:
        """Take the seconds of a finished stage."""
        if manifest is None:
            return
        hardware = {name: manifest.environment.get(name) for name in self.hardware}
        if hardware == self.hardware:
            work, epochs = _work(manifest.identity)
            self._seconds[work] = manifest.seconds / epochs

    def _expected(self, planned: PlannedStage[Any]) -> float | None:
        work, epochs = _work(planned.identity)
        seconds = self._seconds.get(work)
        return None if seconds is None else seconds * epochs


def _work(identity: dict[str, Any]) -> tuple[str, int]:
    """What decides how long a stage takes, as text without its epochs, and the epochs."""
    options = dict(identity["options"])
    epochs = options.pop("epochs", None)
    images = {name: key for name, key in identity["inputs"].items() if name.endswith(" images")}
    text = json.dumps([identity["stage"], identity["version"], options, images], sort_keys=True)
    return text, epochs if isinstance(epochs, int) and epochs > 0 else 1
