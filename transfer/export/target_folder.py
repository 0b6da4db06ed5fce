"""The folder of an export: written beside its place, and renamed into it in one step."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from transfer.artifacts import read_json
from transfer.errors import CorruptArtifact, Interrupted, TransferError, UsageError
from transfer.execution.signal_handlers import SIGNALS, signal_handlers_kept
from transfer.utils.files import flush, full_disk

OWN_FILES = {"README.md", "model.safetensors", "model.json"}  # that every export has


def check_target(folder: Path, force: bool) -> None:
    """Raise UsageError for a folder that the export would overwrite, or that cannot be created.

    Args:
        folder: where the export goes.
        force: an earlier export may be there.
    """
    if folder.resolve() == Path.cwd():
        raise UsageError(
            f"{folder} is the current folder, which the export would replace; name another folder"
        )
    if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
        raise UsageError(f"{folder} is a file; name an empty or a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        problem = _foreign_content(folder)
        if problem and force:
            raise UsageError(f"{folder} {problem}; --force replaces an earlier export only")
        if problem:
            raise UsageError(f"{folder} is not empty; name an empty or a new folder")
        if not force:
            raise UsageError(
                f"{folder} is not empty: it has an earlier export; replace it with --force, or "
                "name a new folder"
            )
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if not parent.is_dir():
        raise UsageError(f"{folder} cannot be created: {parent} is a file")


@contextmanager
def draft_folder(folder: Path, force: bool) -> Iterator[Path]:
    """Yield a folder to write into, which becomes `folder` at the end; on errors it is removed.

    Args:
        folder: where the export goes.
        force: replace an earlier export.
    """
    target = folder.resolve()
    draft = target.with_name(f".{target.name}.{os.getpid()}.exporting")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target, "exporting")
        draft.mkdir()
        with _recorded_signals() as signals:
            yield draft
            for path in [*draft.iterdir(), draft]:
                flush(path)
            if signals:
                raise Interrupted(signals[0])
        check_target(folder, force)  # another process may have filled it meanwhile
        _publish(draft, target)
    except Exception as error:
        if not (problem := full_disk(error, target.parent)):
            raise
        raise TransferError(f"{folder}: {problem}; the unfinished export was removed") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _recorded_signals() -> Iterator[list[int]]:
    """Yield the numbers of SIGINT and SIGTERM as they arrive; each is still handled as before.

    The handlers raise, and a library may catch what they raise while it imports or traces; without
    the record, such an export would go on to its end.
    """
    signals: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Python allows no handlers
        yield signals
        return
    handlers = {
        number: handler
        for number in SIGNALS
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }

    def record(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    with signal_handlers_kept():
        for number in handlers:
            signal.signal(number, record)
        yield signals


def _foreign_content(folder: Path) -> str:
    """What in a folder is not of an export, in words; empty where all of it is."""
    from transfer.export.formats import ONNX, PROGRAM, STATE_DICT

    own = OWN_FILES | {STATE_DICT, PROGRAM, ONNX, f"{ONNX}.data"}
    names = {path.name for path in folder.iterdir()}
    if missing := sorted(OWN_FILES - names):
        return f"is not an export: it has no {missing[0]}"
    if not {"backbone", "fit"} <= _keys(folder / "model.json"):
        return "is not an export: its model.json is not of one"
    foreign = [name for name in sorted(names) if name not in own or not (folder / name).is_file()]
    return f"has '{foreign[0]}', which no export writes" if foreign else ""


def _keys(path: Path) -> set[str]:
    try:
        return set(read_json(path))
    except (CorruptArtifact, TypeError):
        return set()


def _publish(draft: Path, target: Path) -> None:
    """Rename the draft into place; an earlier export is removed after that."""
    if not target.exists() or not any(target.iterdir()):
        os.rename(draft, target)
    else:
        replaced = target.with_name(f".{target.name}.{os.getpid()}.replaced")
        os.rename(target, replaced)
        try:
            os.rename(draft, target)
        except OSError:
            os.rename(replaced, target)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
    flush(target.parent)
    _remove_abandoned(target, "replaced")


def _remove_abandoned(target: Path, state: str) -> None:
    """Remove what exports left that were killed."""
    for abandoned in target.parent.glob(f".{target.name}.*.{state}"):
        if not _is_running(abandoned.name.split(".")[-2]):
            shutil.rmtree(abandoned, ignore_errors=True)


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, OSError):
        return True  # it may be another user's
    return True
