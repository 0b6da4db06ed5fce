"""The options of a run: which stages, what is forced, how many at once, on which device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage
from transfer.utils.logger import logger
from transfer.utils.runtime import Runtime


@dataclass
class RunOptions:
    """The options of `transfer run`.

    Args:
        stages: the stages to run; all by default.
        only: run the named stages without those that they depend on.
        from_here: run the named stages and all that depend on them (`--from`).
        force: run cached stages again.
        keep_going: after a failure, run the stages that do not depend on it.
        restart: discard checkpoints.
        wait: wait for stages that another run holds, instead of raising LockHeld.
        quiet: show no progress.
        tag: a name for the run in the history of the store.
        recorded: record the run in the history; False for a child of `-j`.
        jobs: how many stages run at once.
        runtime: device, precision and threads.
        report: called with each line about the run; by default they go to `logging`.
    """

    stages: Sequence[str] = ()
    only: bool = False
    from_here: bool = False
    force: bool = False
    keep_going: bool = False
    restart: bool = False
    wait: bool = True
    quiet: bool = False
    tag: str | None = None
    recorded: bool = True
    jobs: int = 1
    runtime: Runtime = field(default_factory=Runtime)
    report: Callable[[str], None] = logger.info

    def selected_stages(self, plan: Plan) -> list[PlannedStage[Any]]:
        """Return the stages to run, in the plan's order."""
        if not self.stages:
            return list(plan)
        if not (self.only or self.from_here):
            return plan.narrowed(self.stages).stages
        selected = self._named(plan)
        for planned in plan if self.from_here else ():
            if selected & set(planned.dependencies.values()):
                selected.add(planned)
        # Packs are not in the file, so they cannot be named; those that are read are included.
        selected |= {pack for planned in selected for pack in planned.images.values()}
        return [planned for planned in plan if planned in selected]

    def forced_stages(self, plan: Plan) -> set[PlannedStage[Any]]:
        """Return the stages that `--force` runs again.

        The named ones, and with `--from` also those that depend on them; all where none is named.
        """
        if not self.force:
            return set()
        if not self.from_here:
            return self._named(plan) if self.stages else set(plan)
        after = {planned for planned in self.selected_stages(plan) if not planned.is_pack}
        return self._named(plan) | after

    def _named(self, plan: Plan) -> set[PlannedStage[Any]]:
        return {planned for name in self.stages for planned in plan.find(name)}
