"""Carries a plan out: locks, checks, repairs of damage, signals, and what is told of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from transfer.artifacts import KINDS, Artifact
from transfer.errors import CorruptArtifact, Interrupted, InvalidOption, TransferError, UsageError
from transfer.execution.execute_stage import execute_stage, failure_message
from transfer.execution.status import StageStatus, changed_input, find_manifest, stage_statuses
from transfer.pipeline.plan import Plan, PlannedStage
from transfer.stage.context import StopFlag
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store
from transfer.utils.runtime import Runtime

MAX_REPAIRS = 3


@dataclass
class RunOptions:
    """What `transfer run` was asked for besides the file."""

    stages: Sequence[str] = ()
    only: bool = False
    from_here: bool = False  # --from
    force: bool = False
    keep_going: bool = False
    restart: bool = False
    wait: bool = True
    quiet: bool = False
    jobs: int = 1
    machine: Runtime = field(default_factory=Runtime)
    report: Callable[[str], None] = lambda text: None

    def selected_stages(self, plan: Plan) -> list[PlannedStage]:
        """The stages asked for, in the plan's order, with all that they stand on unless told otherwise."""
        if not self.stages:
            return list(plan)
        if not (self.only or self.from_here):
            return plan.narrowed(self.stages).stages
        found = self._named(plan)
        for one in plan if self.from_here else ():
            if found & set(one.dependencies.values()):
                found.add(one)
        found |= {
            pack for one in found for pack in one.images.values()
        }  # no stages of the file: they come along
        return [one for one in plan if one in found]

    def forced_stages(self, plan: Plan) -> set[PlannedStage]:
        """What `--force` applies to: the named stages (with --from all after them too), else every stage."""
        if not self.force:
            return set()
        if not self.from_here:
            return self._named(plan) if self.stages else set(plan)
        return self._named(plan) | {
            one for one in self.selected_stages(plan) if one.uses != "images"
        }

    def _named(self, plan: Plan) -> set[PlannedStage]:
        return {one for name in self.stages for one in plan.find(name)}


class Run:
    """One carrying out of a plan."""

    def __init__(self, plan: Plan, store: Store, options: RunOptions, words: Sequence[str] = ()):
        self.plan, self.store, self.options, self.words = plan, store, options, words
        self.report, self.stop = options.report, StopFlag()
        self.chosen, self.forced = options.selected_stages(plan), options.forced_stages(plan)
        self.verified: set[tuple[str, str]] = (
            set()
        )  # (folder, digest) of inputs that this run has checked
        self.failed: dict[str, TransferError] = {}

    def execute(self) -> None:
        """Run all that is pending. The first failure is raised when nothing more can be done."""
        pending = [
            s
            for s in stage_statuses(self.plan, self.store, self.forced)
            if s.pending and s.planned in self.chosen
        ]
        if not pending:
            self._record(self.chosen)
            return
        self._check_before(pending)
        self.stop.listen()
        if self.options.jobs > 1:
            from transfer.execution.parallel import run_parallel

            run_parallel(
                self, [one for one in self.chosen if one in {state.planned for state in pending}]
            )
            self._record(self.chosen)
        else:
            self.options.machine.configure_threads()
            self._run_sequentially()
        if self.failed:
            first = next(iter(self.failed.values()))
            if len(self.failed) == 1:
                raise first
            labels = {one.key: f"{one.label}: " for one in self.chosen}
            told = [
                labels[key] + str(error).removeprefix(labels[key])
                for key, error in self.failed.items()
            ]
            error = TransferError(f"{len(told)} stages failed:\n" + "\n".join(told))
            error.exit_code = first.exit_code
            raise error

    def remaining(self) -> list[str]:
        """What `--force` applies to and was not made again: stages, or members of them."""
        found: list[str] = []
        for name, members in self.plan.names.items():
            undone = [one for one in members if one in self.forced and one in self.chosen]
            found += [name] if len(undone) == len(members) else [one.label for one in undone]
        return found

    def _run_sequentially(self) -> None:
        for one in self.chosen:
            if self.failed and not self.options.keep_going:
                return
            if not self.skip_if_upstream_failed(one):
                self.run_stage(one)

    def run_stage(self, one: PlannedStage) -> None:
        """Make one stage; a failure is told and kept in `failed`."""
        try:
            self._make(one)
            self._record([one])
        except Interrupted as error:
            saved = any(self.store.checkpoints(one.key).glob("*"))
            told = "its checkpoint is saved" if saved else "it had only begun"
            raise Interrupted(self.stop.number, f"stopped in {one.label}; {told}") from error
        except TransferError as error:
            self.failed[one.key] = error
            if self.options.keep_going:
                self.report(f"{one.label}: FAILED: {str(error).removeprefix(f'{one.label}: ')}")

    def skip_if_upstream_failed(self, one: PlannedStage) -> bool:
        """Whether something that it reads has failed; then it counts as failed too."""
        missing = [other.label for other in one.dependencies.values() if other.key in self.failed]
        if missing:
            self.failed[one.key] = TransferError(
                f"{one.label}: not run, since {', '.join(missing)} failed"
            )
        return bool(missing)

    def _check_before(self, pending: list[StageStatus]) -> None:
        """What needs torch to be checked is checked here, before the first stage starts."""
        self.options.machine.device  # noqa: B018  (raises where the device is not there)
        faults = []
        if self.options.stages and (self.options.only or self.options.from_here):
            for state in pending:
                for other in state.planned.dependencies.values():
                    if (
                        other not in self.chosen
                        and find_manifest(self.store, other) is None
                        and other.uses != "images"
                    ):
                        what = f"{state.planned.label} reads {other.label}, which is not made yet"
                        faults.append(f"{what}: run it without --only or --from")
        for state in pending:
            one = state.planned
            where = f"{one.node.mark if one.node else self.plan.file}: stages.{one.name}"
            try:
                one.stage.validate_build(one)
            except TransferError:
                raise
            except InvalidOption as error:
                mark = one.node.mark_at((error.option,)) if one.node else self.plan.file
                faults.append(f"{mark}: stages.{one.name}.{error.option}: {error}")
            except ValueError as error:
                faults.append(f"{where}: {error}")
            except Exception as error:  # a stranger's code may raise anything
                faults.append(
                    f"{where}: cannot be built: {failure_message(error, one, self.store)}"
                )
        if faults:
            raise UsageError("\n".join(dict.fromkeys(faults)))

    def _make(self, one: PlannedStage) -> bool:
        """Make one artifact unless it is there; whether it ran. Damage found on the way is mended and told."""
        for _ in range(MAX_REPAIRS):
            try:
                with self._hold(one, self.options.wait):
                    return self._make_locked(one)
            except CorruptArtifact as error:
                self._repair(one, error)
        raise TransferError(
            f"{one.label}: what it reads was damaged {MAX_REPAIRS} times in a row: is the disk failing?"
        )

    def _hold(self, one: PlannedStage, wait: bool) -> AbstractContextManager[None]:
        def waiting(who: str) -> None:
            self.report(f"{one.label}: waiting for {who}")

        return self.store.lock(
            one.key, wait=wait, waiting=waiting, pause_point=self.stop.raise_if_set
        )

    def _make_locked(self, one: PlannedStage) -> bool:
        try:
            manifest = self.store.find(one.uses, one.key)
        except CorruptArtifact as error:
            self.report(f"{one.label}: damaged ({error}): put aside, and made again")
            self.store.put_aside(self.store.folder(one.uses, one.key))
            manifest = None
        if (
            manifest is not None
            and one not in self.forced
            and changed_input(self.store, one, manifest) is None
        ):
            return False
        inputs = {name: self._open(other) for name, other in one.dependencies.items()}
        if self.options.restart:
            shutil.rmtree(self.store.checkpoints(one.key), ignore_errors=True)
        manifest = execute_stage(
            one, inputs, self.store, self.options.machine, self.stop, self.options.quiet
        )
        self.forced.discard(one)
        self.report(manifest.done_text(one.label))
        return True

    def _open(self, one: PlannedStage) -> tuple[Artifact, Manifest]:
        """An input, with its bytes compared with its manifest; once a run is enough."""
        folder = self.store.folder(one.uses, one.key)
        manifest = self.store.find(one.uses, one.key)
        if manifest is None:
            raise CorruptArtifact(folder, "is gone")
        if (str(folder), manifest.digest) not in self.verified:
            self.store.check(folder, manifest)
            self.verified.add((str(folder), manifest.digest))
        return KINDS[manifest.produces](folder), manifest

    def _repair(self, one: PlannedStage, error: CorruptArtifact) -> None:
        """Put a damaged input aside and let its producer run again."""
        for other in one.dependencies.values():
            folder = self.store.folder(other.uses, other.key)
            if folder == Path(error.folder):
                self.verified = {
                    (name, digest) for name, digest in self.verified if name != str(folder)
                }
                with self._hold(other, wait=True):
                    if folder.exists() and not self._is_intact(
                        other
                    ):  # another run may have mended it meanwhile
                        self.report(f"{other.label}: damaged ({error}): put aside, and made again")
                        self.store.put_aside(folder)
                self._make(other)
                return
        raise TransferError(f"{one.label}: {error}") from error

    def _is_intact(self, one: PlannedStage) -> bool:
        try:
            manifest = self.store.find(one.uses, one.key)
            if manifest is not None:
                self.store.check(self.store.folder(one.uses, one.key), manifest, thorough=True)
        except CorruptArtifact:
            return False
        return manifest is not None

    def _record(self, made: Iterable[PlannedStage]) -> None:
        facts = {
            one.label: {"uses": one.uses, "key": one.key}
            for one in made
            if find_manifest(self.store, one)
        }
        known = self.store.last_run(self.plan.name)
        if any(known.get(label) != fact for label, fact in facts.items()):
            whole = None if self.options.stages else [one.label for one in self.plan]
            self.store.record_run(self.plan.name, facts, whole)
