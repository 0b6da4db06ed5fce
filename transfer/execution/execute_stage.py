"""Make one artifact: run its stage in a new folder, describe the files, publish them."""

from __future__ import annotations

import shutil
import traceback
from typing import Any

from transfer.artifacts import Artifact, Images, Scores
from transfer.errors import CorruptArtifact, Interrupted, LockHeld, TransferError
from transfer.stage.base import PlannedStage, images_input
from transfer.stage.context import StageContext, StopFlag
from transfer.stage.registry import source_digest
from transfer.stage.run_place import RunPlace
from transfer.storage.manifest import Manifest, describe_files
from transfer.storage.store import Store
from transfer.utils.files import full_disk
from transfer.utils.runtime import Runtime

MAX_MESSAGE = 500  # characters of an unexpected exception


def execute_stage(
    planned: PlannedStage[Any],
    inputs: dict[str, tuple[Artifact, Manifest]],
    store: Store,
    runtime: Runtime,
    stop: StopFlag,
    quiet: bool,
    place: RunPlace,
) -> Manifest:
    """Run a stage and publish its artifact. Call with the lock on its key held.

    Args:
        planned: the stage.
        inputs: its dependencies, by their names in `planned.dependencies`.
        store: where the artifact goes.
        runtime: device, precision and threads.
        stop: the flag that signals set.
        quiet: show no progress.
        place: of the stage in the run.
    """
    building = store.begin(planned.key)
    context = StageContext(
        folder=building,
        checkpoints=store.checkpoints(planned.key),
        inputs={name: inputs[name][0] for name in planned.inputs},
        images=_images(planned, inputs),
        runtime=runtime,
        seed=planned.seed,
        stop=stop,
        label=planned.label,
        key=planned.key,
        input_keys={name: source.key for name, source in planned.dependencies.items()},
        quiet=quiet,
        place=place,
    )
    produces = planned.stage.produces
    try:
        _run(planned, context, store)
        missing = [name for name in produces.required if not (building / name).is_file()]
        if missing:
            problem = f"the stage ended without writing {', '.join(missing)}"
            raise TransferError(f"{planned.label}: {problem}")
        manifest = Manifest(
            stage=planned.uses,
            key=planned.key,
            produces=produces.__name__,
            identity=planned.identity,
            inputs={
                name: {"key": made.key, "digest": made.digest, "stage": made.stage}
                for name, (_, made) in inputs.items()
            },
            files=describe_files(building),
            figures=context.figures,
            notes=context.notes,
            environment=runtime.describe(),
            seconds=round(context.seconds, 2),
            source=source_digest(type(planned.stage)),
        )
        store.publish(building, manifest)
    except OSError as error:
        raise TransferError(f"{planned.label}: {_disk_message(error, store) or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def _images(
    planned: PlannedStage[Any], inputs: dict[str, tuple[Artifact, Manifest]]
) -> dict[str, Images]:
    """Return the packed images by role; for scores in the order of their ids.

    A score must not depend on the order in which a set is packed.
    """
    images: dict[str, Images] = {}
    for role in planned.images:
        pack = inputs[images_input(role)][0]
        assert isinstance(pack, Images)
        images[role] = pack.by_id() if issubclass(planned.stage.produces, Scores) else pack
    return images


def _run(planned: PlannedStage[Any], context: StageContext, store: Store) -> None:
    """Run the stage; any exception becomes a message, and its traceback goes to a file."""
    try:
        planned.stage.run(context)
    except (LockHeld, CorruptArtifact, Interrupted, OSError):
        raise
    except TransferError as error:
        raise TransferError(f"{planned.label}: {error}") from error
    except Exception as error:
        message = _disk_message(error, store) or failure_message(error, planned, store)
        raise TransferError(f"{planned.label}: {message}") from error


def failure_message(error: Exception, planned: PlannedStage[Any], store: Store) -> str:
    """Describe an exception that is being handled; its traceback is kept in a file."""
    log = store.log_path(planned.key)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
    message = " ".join(str(error).split())[:MAX_MESSAGE]
    return f"{type(error).__name__}: {message}\n  (traceback in {log})"


def _disk_message(error: Exception, store: Store) -> str:
    """Describe a full disk behind `error`; empty where the disk has room."""
    problem = full_disk(error, store.root)
    hint = "earlier results are intact; `transfer gc` lists what can be deleted"
    return f"{problem}; {hint}" if problem else ""
