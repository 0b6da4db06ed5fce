"""Makes one artifact: runs its stage in a folder of its own, describes what came of it, publishes it."""

from __future__ import annotations

import errno
import shutil
import traceback

from transfer.artifacts import Artifact, Scores
from transfer.errors import CorruptArtifact, Interrupted, LockHeld, TransferError
from transfer.pipeline.plan import PlannedStage
from transfer.stage.context import StageContext, StopFlag
from transfer.stage.registry import source_digest
from transfer.storage.manifest import Manifest, describe_files
from transfer.storage.store import Store
from transfer.utils.runtime import Runtime, free_bytes

FULL = 1 << 20  # a disk with less than this many bytes free counts as full
MESSAGE = 500


def execute_stage(
    one: PlannedStage,
    inputs: dict[str, tuple[Artifact, Manifest]],
    store: Store,
    machine: Runtime,
    stop: StopFlag,
    quiet: bool,
) -> Manifest:
    """Run the stage of `one` on its inputs (by their names in `one.before`). Call with the lock on its key held."""
    building = store.begin(one.key)
    images = {role: inputs[f"{role} images"][0] for role in one.images}
    if issubclass(
        one.stage.produces, Scores
    ):  # what is scored must not depend on how the images lie on disk
        images = {role: pack.by_id() for role, pack in images.items()}
    context = StageContext(
        folder=building,
        checkpoints=store.checkpoints(one.key),
        inputs={name: inputs[name][0] for name in one.inputs},
        images=images,
        machine=machine,
        seed=one.seed,
        stop=stop,
        label=one.label,
        key=one.key,
        input_keys={name: other.key for name, other in one.dependencies.items()},
        quiet=quiet,
    )
    try:
        _run(one, context, store)
        missing = [name for name in one.stage.produces.required if not (building / name).is_file()]
        if missing:
            raise TransferError(
                f"{one.label}: the stage ended without writing {', '.join(missing)}"
            )
        manifest = Manifest(
            stage=one.uses,
            key=one.key,
            produces=one.stage.produces.__name__,
            identity=one.identity,
            inputs={
                name: {"key": m.key, "digest": m.digest, "stage": m.stage}
                for name, (_, m) in inputs.items()
            },
            files=describe_files(building),
            figures=context.figures | ({"notes": context.notes} if context.notes else {}),
            environment=machine.describe(),
            seconds=round(context.seconds, 2),
            source=source_digest(type(one.stage)),
        )
        store.publish(building, manifest)
    except OSError as error:
        raise TransferError(f"{one.label}: {_disk_full_message(error, store) or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def _run(one: PlannedStage, context: StageContext, store: Store) -> None:
    """Whatever the stage may raise, a person gets a message, and the trace a file."""
    try:
        one.stage.run(context)
    except (LockHeld, CorruptArtifact, Interrupted, OSError):
        raise
    except TransferError as error:
        raise TransferError(f"{one.label}: {error}") from error
    except Exception as error:
        if full := _disk_full_message(error, store):
            raise TransferError(f"{one.label}: {full}") from error
        raise TransferError(f"{one.label}: {failure_message(error, one, store)}") from error


def failure_message(error: Exception, one: PlannedStage, store: Store) -> str:
    """What a person is told of an exception that is being handled; its whole trace is kept in a file."""
    log = store.root / ".logs" / f"{one.key}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(traceback.format_exc(), encoding="utf-8")
    message = " ".join(str(error).split())[:MESSAGE]
    return f"{type(error).__name__}: {message}\n  (the whole trace is in {log})"


def _disk_full_message(error: Exception, store: Store) -> str:
    """What to say if a full disk is behind `error`; libraries often hide the reason."""
    free = free_bytes(store.root)
    if free >= FULL and getattr(error, "errno", None) != errno.ENOSPC:
        return ""
    hint = "earlier results are whole; `transfer gc` lists what can go"
    return f"the disk is full ({free:,} bytes free at {store.root}); {hint}"
