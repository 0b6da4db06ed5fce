"""The Python entry: `transfer.load("pipelines/x.yaml").run()["linear"].figures`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transfer.artifacts import KINDS, Artifact
from transfer.datasets.cards import card_files
from transfer.datasets.packed.pack_stage import Pack
from transfer.errors import TransferError, UsageError
from transfer.execution.execute import execute
from transfer.execution.options import RunOptions
from transfer.execution.run import Run
from transfer.execution.status import StageStatus, find_manifest, stage_statuses
from transfer.pipeline.loader import load_plan
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage
from transfer.stage.file_option import option_files
from transfer.storage.manifest import MANIFEST
from transfer.storage.store import Store
from transfer.utils.paths import default_store


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
        path: str | Path,
        *,
        sets: Sequence[str] = (),
        smoke: bool = False,
        store: str | Path | None = None,
        stages: Sequence[str] = (),
    ) -> Pipeline:
        """Read and check a pipeline file.

        Args:
            path: the pipeline file.
            sets: replacements, as for `--set`: "stages.clusters.k=100".
            smoke: make every stage small; the results go to a store of their own.
            store: the folder of the results; by default `.transfer/` beside the pipelines' folder.
            stages: plan only these and their dependencies; other images may be missing.
        """
        path = Path(path)
        root = Path(store).expanduser().resolve() if store else default_store(path)
        if root.exists() and not root.is_dir():
            raise UsageError(
                f"{root}: the store is a file; name a folder with --store or TRANSFER_STORE"
            )
        opened = Store(root / "smoke" if smoke else root)
        flags = ["--store", str(root), *(["--smoke"] if smoke else [])]
        flags += [f"--set={assignment}" for assignment in sets]
        plan = load_plan(path, opened, sets=sets, smoke=smoke, stages=stages)
        return Pipeline(plan.narrowed(stages), opened, flags, root, stages)

    def statuses(
        self, forced: Iterable[PlannedStage[Any]] = (), restart: bool = False
    ) -> list[StageStatus]:
        """Return whether each stage is cached, resumes or would run, in the plan's order."""
        return stage_statuses(self.plan, self.store, forced, restart)

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

    def run(self, *stages: str, **options: Any) -> dict[str, Artifact]:
        """Run what is not cached; return the artifact of each selected stage by its label.

        Args:
            stages: the stages to run, with their dependencies; all by default.
            options: fields of `RunOptions`, such as `force=True` or `jobs=2`.
        """
        run_options = RunOptions(stages=stages, **options)
        self.execute(run_options)
        artifacts = {
            planned.label: self._artifact(planned)
            for planned in run_options.selected_stages(self.plan)
        }
        return {label: artifact for label, artifact in artifacts.items() if artifact is not None}

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
