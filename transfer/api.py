"""The Python entry: `transfer.load("pipelines/x.yaml").run()["linear"].figures`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transfer.artifacts import KINDS, Artifact
from transfer.datasets.cards import card_files
from transfer.errors import TransferError, UsageError
from transfer.execution.run import Run, RunOptions
from transfer.execution.status import StageStatus, find_manifest, stage_statuses
from transfer.pipeline.loader import load_plan
from transfer.pipeline.plan import Plan, PlannedStage
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
        words: Sequence[str] = (),
        root: Path | None = None,
        asked: Sequence[str] = (),
    ):
        """words: the options with which the file was read. asked: the stages that the plan was narrowed to."""
        self.plan, self.store, self.flags, self.root = plan, store, list(words), root or store.root
        self.selected = list(asked)

    @staticmethod
    def load(
        path: str | Path,
        *,
        sets: Sequence[str] = (),
        smoke: bool = False,
        store: str | Path | None = None,
        stages: Sequence[str] = (),
    ) -> Pipeline:
        """Read and check a file. `sets` are as for `--set`; smoke results are kept in a store of their own.

        With `stages` only these and what they stand on are planned, and only their images are looked for.
        """
        path = Path(path)
        root = Path(store).expanduser().resolve() if store else default_store(path)
        if root.exists() and not root.is_dir():
            raise UsageError(
                f"the store {root} is a file: name a folder with --store or TRANSFER_STORE"
            )
        opened = Store(root / "smoke" if smoke else root)
        words = [
            "--store",
            str(root),
            *(["--smoke"] if smoke else []),
            *(f"--set={one}" for one in sets),
        ]
        plan = load_plan(path, opened, sets=sets, smoke=smoke, stages=stages)
        return Pipeline(plan.narrowed(stages), opened, words, root, stages)

    def statuses(self, forced: Iterable[PlannedStage] = ()) -> list[StageStatus]:
        """How each stage stands now, in the plan's order."""
        return stage_statuses(self.plan, self.store, forced)

    def files(self) -> list[Path] | None:
        """Every file that the plan and its states are read from; None where a folder could have more of them."""
        found = [self.plan.file, self.store.run_record(self.plan.name)]
        for one in self.plan:
            folder, manifest = self.store.folder(one.uses, one.key), find_manifest(self.store, one)
            code = getattr(sys.modules.get(type(one.stage).__module__), "__file__", None)
            found += [Path(code)] if code else []
            found += [Path(given.path) for given in option_files(one.stage).values()]
            found += [folder / name for name in (manifest.files if manifest else ())] + [
                folder / MANIFEST
            ]
            if one.uses == "images":
                origin = one.stage.origin
                if origin.reader not in ("drawings", "hdf5"):
                    return None
                found += [Path(origin.place)] if origin.reader == "hdf5" else []
        return found + list(card_files(self.plan.file.resolve().parent).values())

    def stage(self, name: str) -> PlannedStage:
        """The one stage that `name` (or `name[member]`) stands for."""
        found = self.plan.find(name)
        if len(found) > 1:
            raise UsageError(
                f"'{name}' stands for {len(found)} members: {', '.join(one.label for one in found)}"
            )
        return found[0]

    def artifact(self, name: str) -> Artifact:
        """The finished artifact of a stage; TransferError where it is not made yet."""
        one = self.stage(name)
        made = self._made(one)
        if made is None:
            words = ["transfer", "run", str(self.plan.file), name, *self.flags]
            raise TransferError(f"{name} has not been made yet: {shlex.join(words)}")
        return made

    def run(self, *stages: str, **flags: Any) -> dict[str, Artifact]:
        """Run what is not cached (flags: see `Options`); returns the artifact of each stage asked for."""
        options = RunOptions(stages=stages, **flags)
        self.execute(options)
        made = {one.label: self._made(one) for one in options.selected_stages(self.plan)}
        return {label: artifact for label, artifact in made.items() if artifact is not None}

    def execute(self, options: RunOptions) -> None:
        """Run what `options` ask for."""
        run = Run(self.plan, self.store, options, self.flags)
        try:
            run.execute()
        except TransferError as error:
            error.remaining = run.remaining()
            raise

    def _made(self, one: PlannedStage) -> Artifact | None:
        manifest = find_manifest(self.store, one)
        return KINDS[manifest.produces](self.store.folder(one.uses, one.key)) if manifest else None
