"""Carries a plan out: what is cached, what is to run and why; locks, damage, signals, and what is told of them."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer.artifacts import KINDS, Artifact, Images
from transfer.catalog import source_digest
from transfer.errors import Damaged, Stopped, TransferError, UsageError
from transfer.machine import Machine, free_bytes
from transfer.pipeline import Plan, Planned, load_plan
from transfer.places import default_store
from transfer.reasons import because
from transfer.store import Manifest, Store, describe_files
from transfer.work import StopFlag, Work

CACHED, RESUME, RUN = "cached", "resumed", "to run"
MAX_REPAIRS = 3


@dataclass(frozen=True)
class State:
    """How a planned stage stands: cached, resumed or to run, and the reason."""

    planned: Planned
    status: str
    reason: str = ""

    @property
    def pending(self) -> bool:
        return self.status != CACHED


@dataclass
class Options:
    """What `transfer run` was asked for besides the file."""

    stages: Sequence[str] = ()
    only: bool = False
    onwards: bool = False  # --from
    force: bool = False
    keep_going: bool = False
    restart: bool = False
    wait: bool = True
    quiet: bool = False
    jobs: int = 1
    machine: Machine = field(default_factory=Machine)
    say: Callable[[str], None] = lambda text: None


class Pipeline:
    """A pipeline file with its store: `Pipeline.load("pipelines/x.yaml").run()["score"].figures`."""

    def __init__(self, plan: Plan, store: Store, words: Sequence[str] = ()):
        self.plan, self.store, self.words = plan, store, list(words)

    @staticmethod
    def load(
        path: str | Path, *, sets: Sequence[str] = (), smoke: bool = False, store: str | Path | None = None
    ) -> Pipeline:
        """Read and check a file. `sets` are as for `--set`; smoke results are kept in a store of their own."""
        path = Path(path)
        root = Path(store).expanduser().resolve() if store else default_store(path)
        opened = Store(root / "smoke" if smoke else root)
        words = ["--store", str(root), *(["--smoke"] if smoke else []), *(f"--set={one}" for one in sets)]
        return Pipeline(load_plan(path, opened, sets=sets, smoke=smoke), opened, words)

    def states(self, forced: Iterable[Planned] = ()) -> list[State]:
        """How each stage stands now, in the plan's order."""
        forced, states, last = set(forced), {}, self.store.last(self.plan.name)
        for one in self.plan:
            states[one.key] = self._state(one, one in forced, states, last)
        return [states[one.key] for one in self.plan]

    def _state(self, one: Planned, forced: bool, before: dict[str, State], last: dict[str, Any]) -> State:
        try:
            manifest = self.store.find(one.uses, one.key)
        except Damaged as error:
            return State(one, RUN, f"damaged: {error}")
        if forced:
            return State(one, RUN, "forced")
        if manifest is None:
            said = self._checkpoint(one)
            reason = because(self.store, self.plan, one, last)
            return State(one, RESUME, f"from {said}") if said else State(one, RUN, reason)
        if (changed := self._stale(one, manifest)) is not None:
            return State(one, RUN, f"input {changed} was made again with other bytes")
        if any(before[other.key].pending for other in one.before.values()):
            return State(one, CACHED, "unless what it reads comes out different")
        notes = [one.note] if one.note else []
        if manifest.source and manifest.source != source_digest(type(one.stage)):
            notes.append(f"its source has changed since, under the same version {one.stage.version}")
        return State(one, CACHED, "; ".join(notes))

    def _stale(self, one: Planned, manifest: Manifest) -> str | None:
        """The name of an input whose bytes are not those that were read."""
        for name, other in one.before.items():
            try:
                now = self.store.find(other.uses, other.key)
            except Damaged:
                continue  # told, and made again, when something reads it
            if now is not None and name in manifest.inputs and manifest.inputs[name]["digest"] != now.digest:
                return name
        return None

    def _checkpoint(self, one: Planned) -> str:
        from transfer.artifacts import read_json

        try:
            return read_json(self.store.checkpoints(one.key) / "progress.json").get("said", "")
        except (Damaged, AttributeError):
            return ""

    def artifact(self, name: str) -> Artifact:
        """The finished artifact of a stage (`name` or `name[member]`); TransferError where it is not made yet."""
        found = self.plan.find(name)
        if len(found) > 1:
            raise UsageError(f"'{name}' stands for {len(found)} members: {', '.join(one.label for one in found)}")
        manifest = self.store.find(found[0].uses, found[0].key)
        if manifest is None:
            raise TransferError(f"{name} has not been made yet: transfer run {self.plan.file} {name}")
        return KINDS[manifest.produces](self.store.folder(manifest.stage, manifest.key))

    def select(self, options: Options) -> list[Planned]:
        """The stages that `options` ask for, in the plan's order, with all that they stand on unless told otherwise."""
        if not options.stages:
            return list(self.plan)
        named = {one for name in options.stages for one in self.plan.find(name)}
        if options.only:
            packs = {pack for one in named for pack in one.images.values()}  # no stage of the file: they come along
            return [one for one in self.plan if one in named | packs]
        chosen = set(named)
        if options.onwards:
            for one in self.plan:
                if chosen & set(one.before.values()):
                    chosen.add(one)
        else:
            for one in reversed(list(self.plan)):
                if one in chosen:
                    chosen |= set(one.before.values())
        return [one for one in self.plan if one in chosen]

    def forced(self, options: Options) -> set[Planned]:
        """What `--force` applies to: the named stages (with --from all after them too), else every stage."""
        if not options.force:
            return set()
        chosen = self.select(options)
        named = {one for name in options.stages for one in self.plan.find(name)}
        return set(chosen) if options.onwards or not named else named

    def run(self, *stages: str, **flags: Any) -> dict[str, Artifact]:
        """Run what is not cached; returns the artifact of every stage asked for, by its label."""
        options = Options(stages=stages, **flags)
        Run(self, options).carry_out()
        manifests = {one.label: self.store.find(one.uses, one.key) for one in self.select(options)}
        return {
            label: KINDS[manifest.produces](self.store.folder(manifest.stage, manifest.key))
            for label, manifest in manifests.items() if manifest is not None
        }  # fmt: skip


class Run:
    """One carrying out of a plan."""

    def __init__(self, pipeline: Pipeline, options: Options):
        self.pipeline, self.plan, self.store, self.options = pipeline, pipeline.plan, pipeline.store, options
        self.say, self.stop = options.say, StopFlag()
        self.chosen = pipeline.select(options)
        self.forced = pipeline.forced(options)
        self.trusted: set[tuple[str, str]] = set()  # (folder, digest) of inputs that this run has checked
        self.failed: dict[str, TransferError] = {}

    def carry_out(self) -> None:
        """Run all that is pending. The first failure is raised when nothing more can be done."""
        pending = [s for s in self.pipeline.states(self.forced) if s.pending and s.planned in self.chosen]
        if not pending:
            self._remember(self.chosen)
            return
        self._check_before(pending)
        self.stop.listen()
        if self.options.jobs > 1:
            from transfer.parallel import carry_out

            carry_out(self, [one for one in self.chosen if one in {state.planned for state in pending}])
            self._remember(self.chosen)
        else:
            self.options.machine.start()
            self._one_after_another()
        if self.failed:
            first = next(iter(self.failed.values()))
            if len(self.failed) == 1:
                raise first
            error = TransferError(f"{len(self.failed)} stages failed:\n" + "\n".join(map(str, self.failed.values())))
            error.exit_code = first.exit_code
            raise error

    def _one_after_another(self) -> None:
        for one in self.chosen:
            if self.blocked(one):
                continue
            try:
                self._make(one)
                self._remember([one])
            except Stopped as error:
                raise Stopped(self.stop.number, f"stopped in {one.label}; what it had is saved") from error
            except TransferError as error:
                self.failed[one.key] = error
                if not self.options.keep_going:
                    return
                self.say(f"{one.label}: FAILED: {error}")

    def blocked(self, one: Planned) -> bool:
        """Whether something that it reads has failed; then it counts as failed too."""
        missing = [other.label for other in one.before.values() if other.key in self.failed]
        if missing:
            self.failed[one.key] = TransferError(f"{one.label}: not run, since {', '.join(missing)} failed")
        return bool(missing)

    def _check_before(self, pending: list[State]) -> None:
        """What needs torch to be checked is checked here, before the first stage starts."""
        self.options.machine.device  # noqa: B018  (raises where the device is not there)
        faults = []
        if self.options.stages and (self.options.only or self.options.onwards):
            for state in pending:
                for other in state.planned.before.values():
                    if other not in self.chosen and self._found(other) is None and other.uses != "images":
                        faults.append(
                            f"{state.planned.label} reads {other.label}, which is not made yet: run it without --only or --from"
                        )
        for state in pending:
            try:
                state.planned.stage.rehearse(state.planned)
            except ValueError as error:
                faults.append(
                    f"{state.planned.node.mark if state.planned.node else self.plan.file}: stages.{state.planned.name}: {error}"
                )
        if faults:
            raise UsageError("\n".join(dict.fromkeys(faults)))

    def _found(self, one: Planned) -> Manifest | None:
        try:
            return self.store.find(one.uses, one.key)
        except Damaged:
            return None

    def _make(self, one: Planned) -> bool:
        """Make one artifact unless it is there; whether it ran. Damage found on the way is mended and told."""
        for _ in range(MAX_REPAIRS):
            try:
                with self.store.lock(one.key, wait=self.options.wait, waiting=lambda who: self.say(f"{one.label}: waiting for {who}"),
                                     pause_point=self.stop.raise_if_set):  # fmt: skip
                    return self._make_locked(one)
            except Damaged as error:
                self._mend(one, error)
        raise TransferError(
            f"{one.label}: what it reads was damaged {MAX_REPAIRS} times in a row: is the disk failing?"
        )

    def _make_locked(self, one: Planned) -> bool:
        try:
            manifest = self.store.find(one.uses, one.key)
        except Damaged as error:
            self.say(f"{one.label}: damaged ({error}): put aside, and made again")
            self.store.put_aside(self.store.folder(one.uses, one.key))
            manifest = None
        if manifest is not None and one not in self.forced and self.pipeline._stale(one, manifest) is None:
            return False
        inputs = {name: self._open(other) for name, other in one.before.items()}
        if self.options.restart:
            shutil.rmtree(self.store.checkpoints(one.key), ignore_errors=True)
        building = self.store.begin(one.key)
        work = Work(
            folder=building,
            checkpoints=self.store.checkpoints(one.key),
            inputs={name: inputs[name][0] for name in one.inputs},
            images={role: inputs[f"{role} images"][0] for role in one.images},
            machine=self.options.machine,
            seed=one.seed,
            stop=self.stop,
            label=one.label,
            key=one.key,
            input_keys={name: other.key for name, other in one.before.items()},
            quiet=self.options.quiet,
        )
        started = time.monotonic()
        try:
            self._run_stage(one, work)
            missing = [name for name in one.stage.produces.required if not (building / name).is_file()]
            if missing:
                raise TransferError(f"{one.label}: the stage ended without writing {', '.join(missing)}")
            manifest = Manifest(
                stage=one.uses, key=one.key, produces=one.stage.produces.__name__, identity=one.identity,
                inputs={name: {"key": m.key, "digest": m.digest, "stage": m.stage} for name, (_, m) in inputs.items()},
                files=describe_files(building), figures=work.figures | ({"notes": work.notes} if work.notes else {}),
                environment=self.options.machine.describe(), seconds=round(time.monotonic() - started, 2),
                source=source_digest(type(one.stage)),
            )  # fmt: skip
            self.store.publish(building, manifest)
        except OSError as error:
            raise TransferError(f"{one.label}: {self._disk(error)}") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        self.forced.discard(one)
        self.say(told(one, manifest))
        return True

    def _run_stage(self, one: Planned, work: Work) -> None:
        try:
            one.stage.run(work)
        except (TransferError, OSError):
            raise
        except Exception as error:  # whatever a stage may raise, a person gets a message, and the trace a file
            if free_bytes(self.store.root) < 1 << 20:
                raise TransferError(f"{one.label}: {self._disk(error)}") from error
            log = self.store.root / ".logs" / f"{one.key}.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
            message = " ".join(str(error).split())[:500]
            raise TransferError(
                f"{one.label}: {type(error).__name__}: {message}\n  (the whole trace is in {log})"
            ) from error

    def _disk(self, error: Exception) -> str:
        free = free_bytes(self.store.root)
        if free < 1 << 20 or getattr(error, "errno", None) == 28:
            return f"the disk is full: {free:,} bytes free at {self.store.root}. Earlier results are whole; `transfer gc` lists what can go"
        return f"{error}"

    def _open(self, one: Planned) -> tuple[Artifact, Manifest]:
        """An input, with its bytes compared with its manifest; once a run is enough."""
        folder = self.store.folder(one.uses, one.key)
        manifest = self.store.find(one.uses, one.key)
        if manifest is None:
            raise Damaged(folder, "is gone")
        if (str(folder), manifest.digest) not in self.trusted:
            self.store.check(folder, manifest)
            self.trusted.add((str(folder), manifest.digest))
        return KINDS[manifest.produces](folder), manifest

    def _mend(self, one: Planned, error: Damaged) -> None:
        """Put a damaged input aside and let its producer run again."""
        for other in one.before.values():
            folder = self.store.folder(other.uses, other.key)
            if folder == Path(error.folder):
                self.trusted = {(name, digest) for name, digest in self.trusted if name != str(folder)}
                with self.store.lock(
                    other.key, wait=True, waiting=lambda who: None, pause_point=self.stop.raise_if_set
                ):
                    if folder.exists() and not self._whole(other):  # another run may have mended it meanwhile
                        self.say(f"{other.label}: damaged ({error}): put aside, and made again")
                        self.store.put_aside(folder)
                self._make(other)
                return
        raise TransferError(f"{one.label}: {error}") from error

    def _whole(self, one: Planned) -> bool:
        try:
            manifest = self.store.find(one.uses, one.key)
            if manifest is not None:
                self.store.check(self.store.folder(one.uses, one.key), manifest, thorough=True)
        except Damaged:
            return False
        return manifest is not None

    def _remember(self, made: Iterable[Planned]) -> None:
        facts = {one.label: {"uses": one.uses, "key": one.key} for one in made if self._found(one)}
        known = self.store.last(self.plan.name)
        if any(known.get(label) != fact for label, fact in facts.items()):
            self.store.remember(self.plan.name, facts)


def told(one: Planned, manifest: Manifest) -> str:
    """The line that a person sees when a stage is done."""
    figures = ", ".join(f"{name} {number(value)}" for name, value in manifest.figures.items() if name != "notes")
    notes = "".join(f"\n  {note}" for note in manifest.figures.get("notes", []))
    return f"{one.label}: done in {manifest.seconds:.1f} s" + (f" ({figures})" if figures else "") + notes


def number(value: Any) -> str:
    """A figure as a person reads it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def command(plan: Plan, *words: str) -> str:
    """The command line that works on this plan's file, for hints."""
    path = os.path.relpath(plan.file)
    return " ".join(["transfer", "run", path if len(path) < len(str(plan.file)) else str(plan.file), *words])


__all__ = ["CACHED", "RESUME", "RUN", "Images", "Options", "Pipeline", "Run", "State", "command", "told"]
