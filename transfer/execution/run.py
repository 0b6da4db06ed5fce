"""Run: the state of one execution of a plan, and the work on one of its stages."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from transfer.artifacts import KINDS, Artifact
from transfer.errors import CorruptArtifact, Interrupted, TransferError
from transfer.execution.execute_stage import execute_stage
from transfer.execution.options import RunOptions
from transfer.execution.schedule import Schedule
from transfer.execution.status import StageStatus, changed_input, stage_statuses
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage
from transfer.stage.context import StopFlag
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store
from transfer.utils.progress_display import bars_hidden

MAX_REPAIRS = 3


class Run:
    """One execution of a plan.

    Args:
        plan: the stages of a pipeline file.
        store: where their artifacts are.
        options: what was asked for.
        flags: the command's own flags, for the commands of child processes.
    """

    def __init__(self, plan: Plan, store: Store, options: RunOptions, flags: Sequence[str] = ()):
        self.plan, self.store, self.options, self.flags = plan, store, options, flags
        self.stop = StopFlag()
        self.selected = options.selected_stages(plan)
        self.forced = options.forced_stages(plan)
        # (folder, digest) of the inputs whose bytes this run has checked.
        self.verified: set[tuple[str, str]] = set()
        self.failed: dict[str, TransferError] = {}  # key -> error

    @cached_property
    def schedule(self) -> Schedule:
        """The order of the stages, and how long each is expected to take."""
        return Schedule(self.options.runtime.hardware())

    def statuses(self) -> list[StageStatus]:
        """Return the status of each selected stage, in the plan's order."""
        selected, restart = set(self.selected), self.options.restart
        statuses = stage_statuses(self.plan, self.store, self.forced, restart)
        return [status for status in statuses if status.planned in selected]

    def report(self, text: str) -> None:
        """Report a line about the run."""
        with bars_hidden():
            self.options.report(text)

    def remaining(self) -> list[str] | None:
        """Return names of what `--force` was to run again and did not; None where that is all.

        A name that the user gave stays as it is while nothing of it was made.
        """
        undone = [planned for planned in self.selected if planned in self.forced]
        if len(undone) == len(self.options.forced_stages(self.plan) & set(self.selected)):
            return None
        # Without names, or with `--from`, the plan is the whole file, so a name means all of it.
        named = bool(self.options.stages) and not self.options.from_here
        groups = {name: self.plan.find(name) for name in self.options.stages if named}
        names = [
            name
            for name, members in (groups or self.plan.names).items()
            if set(members) <= set(undone)
        ]
        covered = {planned for name in names for planned in (groups or self.plan.names)[name]}
        return names + [planned.exact_label for planned in undone if planned not in covered]

    def run_stage(self, planned: PlannedStage[Any]) -> None:
        """Make one artifact unless it is cached; a failure is reported and kept in `failed`."""
        try:
            self._make(planned)
        except Interrupted as error:
            saved = any(self.store.checkpoints(planned.key).glob("*"))
            state = "its checkpoint is saved" if saved else "it had only begun"
            message = f"stopped in {planned.label}; {state}"
            raise Interrupted(self.stop.number, message) from error
        except TransferError as error:
            self.failed[planned.key] = error
            if self.options.keep_going:
                problem = str(error).removeprefix(f"{planned.label}: ")
                self.report(f"{planned.label}: FAILED: {problem}")

    def discard_checkpoints(self, stages: Iterable[PlannedStage[Any]]) -> None:
        """With `--restart`, discard the checkpoints of stages, so that a resumed run finds none.

        A stage that another run is making keeps its own.
        """
        for planned in stages if self.options.restart else ():
            if not self.store.is_locked(planned.key):
                shutil.rmtree(self.store.checkpoints(planned.key), ignore_errors=True)

    def skip_if_upstream_failed(self, planned: PlannedStage[Any]) -> bool:
        """Whether a dependency has failed; the stage then counts as failed too."""
        failed = [
            source.label for source in planned.dependencies.values() if source.key in self.failed
        ]
        if failed:
            problem = f"{planned.label}: not run, since {', '.join(failed)} failed"
            self.failed[planned.key] = TransferError(problem)
        return bool(failed)

    def _make(self, planned: PlannedStage[Any]) -> bool:
        """Make one artifact unless it is cached; return whether it ran. Repair damaged inputs."""
        for _ in range(MAX_REPAIRS):
            try:
                with self._hold(planned, self.options.wait):
                    return self._make_locked(planned)
            except CorruptArtifact as error:
                self._repair(planned, error)
        raise TransferError(
            f"{planned.label}: an input was damaged {MAX_REPAIRS} times in a row; check the disk"
        )

    def _hold(self, planned: PlannedStage[Any], wait: bool) -> AbstractContextManager[None]:
        def waiting(holder: str) -> None:
            self.report(f"{planned.label}: waiting for {holder}")

        pause_point = self.stop.raise_if_set
        return self.store.lock(planned.key, wait=wait, waiting=waiting, pause_point=pause_point)

    def _make_locked(self, planned: PlannedStage[Any]) -> bool:
        try:
            manifest = self.store.find(planned.uses, planned.key)
        except CorruptArtifact as error:
            self._put_aside(planned, error)
            manifest = None
        if manifest is not None and planned not in self.forced:
            changed = changed_input(self.store, planned, manifest)
            if changed is None:
                self.schedule.skip(planned)
                return False
        inputs = {name: self._open(source) for name, source in planned.dependencies.items()}
        if self.options.restart:
            shutil.rmtree(self.store.checkpoints(planned.key), ignore_errors=True)
        runtime, quiet = self.options.runtime, self.options.quiet
        place = self.schedule.begin(planned)
        manifest = execute_stage(planned, inputs, self.store, runtime, self.stop, quiet, place)
        self.schedule.record(manifest)
        self.forced.discard(planned)
        self.report(manifest.done_text(planned.label))
        return True

    def _open(self, planned: PlannedStage[Any]) -> tuple[Artifact, Manifest]:
        """Return an input; once a run, its bytes are compared with its manifest."""
        folder = self.store.folder(planned.uses, planned.key)
        manifest = self.store.find(planned.uses, planned.key)
        if manifest is None:
            raise CorruptArtifact(folder, "is missing")
        if (str(folder), manifest.digest) not in self.verified:
            self.store.check(folder, manifest)
            self.verified.add((str(folder), manifest.digest))
        return KINDS[manifest.produces](folder), manifest

    def _repair(self, planned: PlannedStage[Any], error: CorruptArtifact) -> None:
        """Move a damaged input aside and run its stage again."""
        for source in planned.dependencies.values():
            folder = self.store.folder(source.uses, source.key)
            if folder == Path(error.folder):
                self.verified = {entry for entry in self.verified if entry[0] != str(folder)}
                with self._hold(source, wait=True):
                    # Another run may have repaired it meanwhile.
                    if folder.exists() and not self._is_intact(source):
                        self._put_aside(source, error)
                self._make(source)
                return
        raise TransferError(f"{planned.label}: {error}") from error

    def _put_aside(self, planned: PlannedStage[Any], error: CorruptArtifact) -> None:
        self.report(f"{planned.label}: damaged ({error}); moved aside and made again")
        self.store.put_aside(self.store.folder(planned.uses, planned.key))

    def _is_intact(self, planned: PlannedStage[Any]) -> bool:
        try:
            manifest = self.store.find(planned.uses, planned.key)
            if manifest is not None:
                folder = self.store.folder(planned.uses, planned.key)
                self.store.check(folder, manifest, thorough=True)
        except CorruptArtifact:
            return False
        return manifest is not None
