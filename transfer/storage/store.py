"""The store: `<stage>/<key>/` holds an artifact's files and, written last, its `manifest.json`.

An artifact is built in a separate folder, flushed to the disk and renamed into place. A folder with
a manifest is complete; one without is never read. Each key has one lock, which the kernel releases
when the process that holds it ends. Only this file knows the layout of the store.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from transfer.errors import CorruptArtifact
from transfer.storage.history import FINISHED, History, RecordedRun
from transfer.storage.locks import hold_lock, is_locked, writing
from transfer.storage.manifest import KEY, MANIFEST, Manifest
from transfer.utils.files import flush, hash_file

OWN_CHECKSUMS = 256 << 20  # bytes: larger HDF5 files are checked block by block when read
# Folder of what a run leaves -> what it is.
LEFTOVERS = {
    ".building": "an unfinished result of a run that was killed",
    ".checkpoints": "a checkpoint",
    ".damaged": "a damaged result that was put aside",
    ".deleted": "a result whose deletion was interrupted",
    ".logs": "the traceback of a stage that failed",
}


class Store:
    """A folder of artifacts. Opening it costs nothing: the first write creates the folder."""

    def __init__(self, root: Path):
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def folder(self, stage: str, key: str) -> Path:
        """Return the folder of an artifact."""
        return self.root / stage / key

    def checkpoints(self, key: str) -> Path:
        """Return the folder of a stage's checkpoints, which survive a kill."""
        return self.root / ".checkpoints" / key

    @property
    def survey_cache(self) -> Path:
        """The folder that caches surveys of image sets."""
        return self.root / ".surveys"

    def log_path(self, key: str) -> Path:
        """Return the file for the traceback of a failed stage."""
        return self.root / ".logs" / f"{key}.txt"

    @property
    def smoke(self) -> Store:
        """The store of smoke runs."""
        return Store(self.root / "smoke")

    def find(self, stage: str, key: str) -> Manifest | None:
        """Return the manifest of a finished artifact; None if there is no such artifact.

        CorruptArtifact if a file is missing or has another size than the manifest states.
        """
        folder = self.folder(stage, key)
        if not (folder / MANIFEST).exists():
            previous = _previous(folder)
            if not (previous / MANIFEST).exists() or folder.exists():
                return None
            _rename(previous, folder)  # a run was killed between the two renames of `publish`
        manifest = Manifest.read(folder)
        if manifest.key != key:
            raise CorruptArtifact(folder, f"{MANIFEST} belongs to {manifest.key}")
        for name, facts in manifest.files.items():
            try:
                size = (folder / name).stat().st_size
            except OSError as error:
                raise CorruptArtifact(folder, f"{name} is missing") from error
            if size != facts["size"]:
                raise CorruptArtifact(folder, f"{name} has {size} bytes instead of {facts['size']}")
        return manifest

    def check(self, folder: Path, manifest: Manifest, thorough: bool = False) -> None:
        """Compare files with their manifest; CorruptArtifact names the first that differs.

        Args:
            folder: the artifact's folder.
            manifest: its manifest.
            thorough: read large HDF5 files too, whose own checksums are checked when rows are read.
        """
        for name, facts in manifest.files.items():
            if not thorough and name.endswith(".h5") and facts["size"] > OWN_CHECKSUMS:
                continue
            try:
                digest, _ = hash_file(folder / name)
            except OSError as error:
                raise CorruptArtifact(
                    folder, f"{name} cannot be read ({error.strerror})"
                ) from error
            if digest != facts["sha256"]:
                raise CorruptArtifact(folder, f"{name} is not what was written (sha256 differs)")

    def lock(
        self,
        key: str,
        *,
        wait: bool,
        waiting: Callable[[str], None],
        pause_point: Callable[[], None],
    ) -> AbstractContextManager[None]:
        """Hold the lock of `key`: see `hold_lock`."""
        path = self._lock_path(key)
        return hold_lock(path, wait=wait, waiting=waiting, pause_point=pause_point)

    def is_locked(self, key: str) -> bool:
        """Whether a running process holds the key's lock."""
        return is_locked(self._lock_path(key))

    def begin(self, key: str) -> Path:
        """Create an empty folder to build the artifact in. The caller must hold the lock."""
        folder = self.root / ".building" / key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.checkpoints(key).mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, building: Path, manifest: Manifest) -> None:
        """Flush the files, add the manifest and rename the folder into place.

        An earlier result stays until then.
        """
        for path in building.rglob("*"):
            if path.is_file():
                flush(path)
        draft = building / MANIFEST
        draft.write_text(manifest.dump(), encoding="utf-8", errors="backslashreplace")
        flush(draft)
        flush(building)
        target = self.folder(manifest.stage, manifest.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(_previous(target), ignore_errors=True)
            _rename(target, _previous(target))
        _rename(building, target)
        shutil.rmtree(_previous(target), ignore_errors=True)
        shutil.rmtree(self.checkpoints(manifest.key), ignore_errors=True)

    def put_aside(self, folder: Path) -> Path:
        """Move a damaged artifact to where it can be inspected; `gc` removes it."""
        name = f"{folder.parent.name}-{folder.name}-{time.time_ns()}"
        target = self.root / ".damaged" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _rename(folder, target)
        return target

    def artifacts(self, damaged: bool = False) -> Iterator[Path]:
        """Yield the folders of all finished artifacts, except those of smoke runs.

        Args:
            damaged: yield those that lost their manifest too.
        """
        folders = {path.parent for path in self.root.glob(f"**/{MANIFEST}")}
        if damaged:
            paths = (path for path in self.root.glob("**") if KEY.fullmatch(path.name))
            folders |= {path for path in paths if path.is_dir()}
        for folder in sorted(folders):
            parts = folder.relative_to(self.root).parts
            if parts and parts[0] != "smoke" and not any(part.startswith(".") for part in parts):
                yield folder

    def leftovers(self) -> Iterator[tuple[Path, str]]:
        """Yield what interrupted runs left, each with what it is.

        That is unfinished artifacts, checkpoints, logs, and results that were replaced.
        """
        for name, meaning in LEFTOVERS.items():
            for path in sorted((self.root / name).glob("*")):
                yield path, meaning
        for previous in sorted(self.root.glob("**/.*.previous")):
            if _replaced_by(previous).exists():
                yield previous, "a result that a later one replaced"

    def remove(self, path: Path) -> None:
        """Delete an artifact or a leftover; a kill in the middle leaves it whole, or a leftover."""
        target = self.root / ".deleted" / f"{path.name}-{time.time_ns()}"
        with writing(self.root), suppress(FileNotFoundError):  # another process removes it too
            if not path.is_dir():
                path.unlink()
                return
            target.parent.mkdir(exist_ok=True)
            os.rename(path, target)
        shutil.rmtree(target, ignore_errors=True)

    @property
    def history(self) -> History:
        """The runs that used this store."""
        return History(self.root)

    def run_lock(self, run: RecordedRun) -> AbstractContextManager[None]:
        """Hold the lock that shows that a run is in progress."""
        return hold_lock(
            self._lock_path(f"run-{run.run}"),
            wait=True,
            waiting=lambda holder: None,
            pause_point=lambda: None,
        )

    def is_running(self, run: RecordedRun) -> bool:
        """Whether a run is in progress; one without an end that is not was killed."""
        return run.ended is None and self.is_locked(f"run-{run.run}")

    def last_run(self, pipeline: str) -> dict[str, dict[str, str]]:
        """Return stage label -> `uses` and key of the artifact that the pipeline used last.

        For reasons such as "k 200 → 100".
        """
        known: dict[str, dict[str, str]] = {}
        for run in reversed(self._runs(pipeline)):
            finished = run.outcome in FINISHED
            for label, (uses, key) in run.artifacts.items():
                if finished or (self.folder(uses, key) / MANIFEST).exists():
                    known.setdefault(label, {"uses": uses, "key": key})
            if finished and not run.stages:
                break
        return known

    def _runs(self, pipeline: str) -> list[RecordedRun]:
        """The runs of a pipeline's name, oldest first."""
        runs: list[RecordedRun] = []
        with suppress(CorruptArtifact):
            runs += self.history.former_runs()
        with suppress(OSError):  # of another user's store it may be unreadable
            runs += self.history.read().runs
        return [run for run in runs if run.pipeline == pipeline]

    def _lock_path(self, key: str) -> Path:
        return self.root / ".locks" / f"{key}.lock"


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _replaced_by(previous: Path) -> Path:
    """The folder that replaced `previous`."""
    return previous.with_name(previous.name.removeprefix(".").removesuffix(".previous"))


def _rename(source: Path, target: Path) -> None:
    os.rename(source, target)
    flush(target.parent)
