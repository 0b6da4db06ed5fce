"""The Python entry: `transfer.load("pipelines/x.yaml").run()["linear"].figures`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

from transfer.artifacts import KINDS, Artifact
from transfer.datasets.cards import card_files
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers.member_names import not_utf8
from transfer.errors import TransferError, UsageError
from transfer.execution.execute import check_plan, execute
from transfer.execution.options import RunOptions
from transfer.execution.recording import check_tag
from transfer.execution.results import STATUS_TITLES, Results, RunPlan, status_cells
from transfer.execution.run import Run
from transfer.execution.signal_handlers import signal_handlers_kept
from transfer.execution.status import StageStatus, find_manifest, stage_statuses
from transfer.pipeline.assignments import assignment_texts
from transfer.pipeline.loader import load_plan
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage
from transfer.stage.file_option import option_files
from transfer.storage.manifest import MANIFEST
from transfer.storage.store import Store
from transfer.utils.argument_checks import (
    check_choice,
    check_count,
    check_flags,
    check_number,
    check_text,
    names_argument,
    path_argument,
)
from transfer.utils.paths import store_folder
from transfer.utils.repr_tables import ReprTable
from transfer.utils.runtime import Runtime

if TYPE_CHECKING:
    from transfer.comparison.score_comparison import ScoreComparison

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


class Pipeline:
    """A pipeline file with its store."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        flags: Sequence[str] = (),
        root: Path | None = None,
        selected: Sequence[str] = (),
    ):
        """Join a plan and a store; `Pipeline.load` is the usual way.

        Args:
            plan: the stages of the file.
            store: where their artifacts are.
            flags: the command-line flags with which the file was read, for commands in messages.
            root: the store's folder as the user named it; smoke results lie in a folder below it.
            selected: the stages to which the plan was narrowed.
        """
        self.plan, self.store, self.flags = plan, store, list(flags)
        self.root, self.selected = root or store.root, list(selected)

    @staticmethod
    def load(
        path: str | os.PathLike[str],
        *,
        sets: Sequence[str] | Mapping[str, Any] = (),
        smoke: bool = False,
        store: str | os.PathLike[str] | None = None,
        stages: Sequence[str] = (),
    ) -> Pipeline:
        """Read and check a pipeline file.

        Args:
            path: the pipeline file.
            sets: replacements, as for `--set`, ["stages.clusters.k=100"], or values by their
                paths, {"stages.clusters.k": 100, "data": Path("photos")}.
            smoke: make every stage small; the results go to a store of their own.
            store: the folder of the results; by default `.transfer/` beside the pipelines' folder.
            stages: plan only these and their dependencies; other images may be missing.
        """
        path, stages = path_argument("path", path), names_argument("stages", stages, "clusters")
        if not isinstance(sets, Mapping):
            sets = names_argument("sets", sets, "stages.clusters.k=100")
        check_flags(smoke=smoke)
        if store is not None:
            store = path_argument("store", store)
        root = store_folder(store, path)
        if root.exists() and not root.is_dir():
            raise UsageError(
                f"{root}: the store is a file; name a folder with --store or TRANSFER_STORE"
            )
        if not_utf8(str(root)):
            raise UsageError(
                f"{root}: the store's path is not valid UTF-8; name another folder with --store "
                "or TRANSFER_STORE"
            )
        opened = Store(root / "smoke" if smoke else root)
        sets = assignment_texts(sets)
        flags = ["--store", str(root), *(["--smoke"] if smoke else [])]
        flags += [f"--set={assignment}" for assignment in sets]
        plan = load_plan(path, opened, sets=sets, smoke=smoke, stages=stages)
        return Pipeline(plan.narrowed(stages), opened, flags, root, stages)

    def statuses(self, forced: Iterable[PlannedStage[Any]] = ()) -> list[StageStatus]:
        """Return whether each stage is cached, resumes or would run, in the plan's order."""
        return stage_statuses(self.plan, self.store, forced)

    def files(self) -> list[Path] | None:
        """Return every file that the plan and its statuses depend on.

        None where images lie in a folder, which could get more of them.
        """
        files = [self.plan.file]
        for planned in self.plan:
            stage, folder = planned.stage, self.store.folder(planned.uses, planned.key)
            manifest = find_manifest(self.store, planned)
            module = sys.modules.get(type(stage).__module__)
            if module is not None and module.__file__:
                files.append(Path(module.__file__))
            files += [Path(file.path) for file in option_files(stage).values()]
            files += [folder / name for name in (manifest.files if manifest else ())]
            files.append(folder / MANIFEST)
            if isinstance(stage, Pack):
                if stage.origin.reader not in ("drawings", "hdf5"):
                    return None
                if stage.origin.reader == "hdf5":
                    files.append(Path(stage.origin.location))
        return files + list(card_files(self.plan.file.resolve().parent).values())

    def stage(self, name: str) -> PlannedStage[Any]:
        """Return the stage called `name`, or `name[member]`; UsageError for several members."""
        check_text("name", name, "clusters")
        matches = self.plan.find(name)
        if len(matches) > 1:
            labels = ", ".join(planned.label for planned in matches)
            raise UsageError(f"'{name}' has {len(matches)} members; name one of them: {labels}")
        return matches[0]

    def artifact(self, name: str) -> Artifact:
        """Return the finished artifact of a stage; TransferError where it is not made yet."""
        artifact = self._artifact(self.stage(name))
        if artifact is None:
            command = shlex.join(["transfer", "run", str(self.plan.file), name, *self.flags])
            raise TransferError(f"{name} is not made yet; make it: {command}")
        return artifact

    @overload
    def run(
        self,
        *stages: str,
        dry_run: Literal[True],
        only: bool = False,
        from_: bool = False,
        force: bool = False,
        restart: bool = False,
    ) -> RunPlan: ...

    @overload
    def run(
        self,
        *stages: str,
        dry_run: Literal[False] = False,
        only: bool = False,
        from_: bool = False,
        force: bool = False,
        restart: bool = False,
        keep_going: bool = False,
        jobs: int = 1,
        wait: bool = True,
        quiet: bool = False,
        tag: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        compile: bool = False,
        save_every: float = 30.0,
    ) -> Results: ...

    def run(
        self,
        *stages: str,
        dry_run: bool = False,
        only: bool = False,
        from_: bool = False,
        force: bool = False,
        restart: bool = False,
        keep_going: bool = False,
        jobs: int = 1,
        wait: bool = True,
        quiet: bool = False,
        tag: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        compile: bool = False,
        save_every: float = 30.0,
    ) -> Results | RunPlan:
        """Run what is not cached; return the artifact of each selected stage by its label.

        Each argument is an option of `transfer run`. A failure raises TransferError; UsageError
        means that nothing was started.

        Args:
            stages: the stages to run, with their dependencies; all by default.
            dry_run: start nothing, and return what would run and why: a RunPlan.
            only: run the named stages alone; what they read must exist.
            from_: run the named stages and all that depend on them (`--from`).
            force: run cached stages again: the named ones, or all.
            restart: discard checkpoints; interrupted stages start from the beginning.
            keep_going: after a failure, run the stages that do not depend on it.
            jobs: run up to so many stages at once.
            wait: wait for stages that another run holds; False raises LockHeld (`--no-wait`).
            quiet: show no progress.
            tag: a name for the run in the history of the store.
            device: auto, cpu, cuda, cuda:1, ...
            precision: auto, float32 or bfloat16; auto takes bfloat16 where it is faster.
            threads: CPU threads; all cores by default.
            compile: compile the networks with torch.compile.
            save_every: seconds between checkpoints.
        """
        check_flags(dry_run=dry_run, only=only, from_=from_, force=force, restart=restart)
        check_flags(keep_going=keep_going, wait=wait, quiet=quiet, compile=compile)
        check_count("jobs", jobs)
        check_text("device", device, "cuda:0")
        check_choice("precision", precision, get_args(Precision))
        check_number("save_every", save_every)
        if threads is not None:
            check_count("threads", threads)
        if tag is not None:
            check_text("tag", tag, "best")
        options = RunOptions(
            stages=names_argument("stages", stages, "clusters"),
            only=only,
            from_here=from_,
            force=force,
            keep_going=keep_going,
            restart=restart,
            wait=wait,
            quiet=quiet,
            tag=tag,
            jobs=jobs,
            runtime=Runtime(device, precision, threads, compile, save_every),
        )
        selected = options.selected_stages(self.plan)
        if dry_run:
            run = Run(self.plan, self.store, options, self.flags)
            check_tag(run)
            statuses = run.statuses()
            check_plan(run, [status for status in statuses if status.pending])
            return RunPlan(self.plan.name, statuses)
        with signal_handlers_kept():
            self.execute(options)
        artifacts = {planned.label: self._artifact(planned) for planned in selected}
        return Results({label: made for label, made in artifacts.items() if made is not None})

    def compare(
        self,
        *,
        stages: Sequence[str] = (),
        protocols: Sequence[str] = (),
        paired: bool = False,
    ) -> ScoreComparison:
        """Compare the finished scores; `transfer.compare` takes several files.

        Args:
            stages: compare only these evaluation stages.
            protocols: compare only these protocols.
            paired: where there is one seed, pair test images for intervals of differences.
        """
        from transfer.comparison.score_comparison import compare_scores

        return compare_scores([self], stages, protocols, paired)

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> ReprTable:
        smoke = "smoke run of " if self.plan.smoke else ""
        caption = f"{smoke}{self.plan.name} ({self.plan.file}), results in {self.store.root}"
        try:
            rows, note = [status_cells(status) for status in self.statuses()], ""
        except (OSError, TransferError) as error:
            rows, note = [], str(error)
        return ReprTable(caption, STATUS_TITLES, rows, note)

    def execute(self, options: RunOptions) -> tuple[int, str] | None:
        """Run what `options` select; return what `execute` returns."""
        run = Run(self.plan, self.store, options, self.flags)
        try:
            return execute(run)
        except TransferError as error:
            error.remaining = run.remaining()
            raise

    def _artifact(self, planned: PlannedStage[Any]) -> Artifact | None:
        manifest = find_manifest(self.store, planned)
        if manifest is None:
            return None
        return KINDS[manifest.produces](self.store.folder(planned.uses, planned.key))
