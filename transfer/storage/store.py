"""Where artifacts live: `<stage>/<key>/` with the files and, last of all, `manifest.json`.

An artifact is built in a folder of its own, flushed to disk and renamed into place: what has a manifest is whole,
what has none is never read. One lock a key, which the kernel drops with the process that holds it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from transfer.errors import CorruptArtifact, LockHeld
from transfer.storage.manifest import MANIFEST, Manifest
from transfer.utils.files import hash_file

OWN_CHECKSUMS = (
    256 << 20
)  # HDF5 files above this many bytes are checked block by block as they are read


class Store:
    """A folder of artifacts. Opening one costs nothing; the folder is made when something is written."""

    def __init__(self, root: Path):
        self.root = Path(root)

    def folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def checkpoints(self, key: str) -> Path:
        """Where a stage keeps what must survive a kill."""
        return self.root / ".checkpoints" / key

    @property
    def survey_cache(self) -> Path:
        """Where surveys of image sets are remembered."""
        return self.root / ".surveys"

    def find(self, stage: str, key: str) -> Manifest | None:
        """The manifest of a finished artifact, or None; Damaged where there is one that cannot be trusted."""
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
        """Compare the files with the manifest; Damaged names the first that differs.

        Large HDF5 files carry checksums, which are met when their rows are read; `thorough` reads them too.
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
                raise CorruptArtifact(
                    folder, f"{name} is not what was written (its sha256 differs)"
                )

    @contextmanager
    def lock(
        self,
        key: str,
        *,
        wait: bool,
        waiting: Callable[[str], None],
        pause_point: Callable[[], None],
    ) -> Iterator[None]:
        """Hold `key`. Where somebody else does: `waiting(who)` is told, or Busy is raised without `wait`."""
        from filelock import FileLock, Timeout

        path = self.root / ".locks" / f"{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = path.with_suffix(".holder")
        lock, told = FileLock(path), False
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                who = _read_text(holder) or "another process"
                if not wait:
                    raise LockHeld(f"held by {who}, and --no-wait was given") from None
                if not told:
                    waiting(who)
                    told = True
                pause_point()
                time.sleep(0.2)
        try:
            holder.write_text(
                f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%H:%M:%S')}",
                encoding="utf-8",
            )
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def begin(self, key: str) -> Path:
        """An empty folder to build the artifact in, on the same file system. Call with the lock held."""
        folder = self.root / ".building" / key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.checkpoints(key).mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, building: Path, manifest: Manifest) -> None:
        """Flush, add the manifest, rename into place. The old result stands until the new one is there."""
        for path in building.rglob("*"):
            if path.is_file():
                _flush(path)
        draft = building / MANIFEST
        draft.write_text(manifest.dump(), encoding="utf-8")
        _flush(draft)
        _flush(building)
        target = self.folder(manifest.stage, manifest.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(_previous(target), ignore_errors=True)
            _rename(target, _previous(target))
        _rename(building, target)
        shutil.rmtree(_previous(target), ignore_errors=True)
        shutil.rmtree(self.checkpoints(manifest.key), ignore_errors=True)

    def put_aside(self, folder: Path) -> Path:
        """Move a damaged artifact out of the way, for whoever wants to look at it; `gc` removes it."""
        target = self.root / ".damaged" / f"{folder.parent.name}-{folder.name}-{time.time_ns()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        _rename(folder, target)
        return target

    def artifacts(self) -> Iterator[Path]:
        """Folders of all finished artifacts."""
        for path in sorted(self.root.glob(f"**/{MANIFEST}")):
            if not any(part.startswith(".") for part in path.relative_to(self.root).parts):
                yield path.parent

    # What each pipeline last made: the ground for reasons ("k 200 -> 100") and for what `gc` keeps.

    def run_record(self, pipeline: str) -> Path:
        return self.root / ".pipelines" / f"{pipeline}.json"

    def last_run(self, pipeline: str) -> dict[str, dict[str, str]]:
        """Stage -> `uses` and key of what the pipeline of this name last made or found."""
        try:
            return json.loads(self.run_record(pipeline).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def record_run(
        self, pipeline: str, made: dict[str, dict[str, str]], labels: Sequence[str] | None = None
    ) -> None:
        """Add to what is known of a pipeline; with `labels`, those that it no longer has are forgotten."""
        path = self.run_record(pipeline)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        known = {
            label: fact
            for label, fact in self.last_run(pipeline).items()
            if labels is None or label in labels
        }
        draft.write_text(json.dumps(known | made, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(draft, path)

    def pipelines(self) -> list[str]:
        return sorted(path.stem for path in (self.root / ".pipelines").glob("*.json"))


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _rename(source: Path, target: Path) -> None:
    os.rename(source, target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
