# pyright: strict
"""StageContext: inputs, folders, device and seed of a running stage."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from transfer.artifacts import Images, read_json
from transfer.errors import CorruptArtifact, Interrupted
from transfer.stage.run_place import RunPlace
from transfer.utils.files import write_atomic
from transfer.utils.logger import logger
from transfer.utils.progress import Progress
from transfer.utils.progress_display import restore_terminal
from transfer.utils.runtime import Runtime

PROGRESS = "progress.json"


def derived_seed(seed: int, *purpose: object) -> int:
    """Derive the seed of a purpose from a stage's seed.

    Each purpose has its own random numbers, so none depends on what was drawn before.
    """
    text = "\0".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass
class StageContext:
    """The inputs of a stage, the folders for its files, and the device that it runs on."""

    folder: Path  # its files become the artifact
    checkpoints: Path  # its files survive a kill; empty at the first start
    inputs: dict[str, Any]  # option -> artifact
    images: dict[str, Images]  # role -> packed images
    runtime: Runtime
    seed: int
    stop: StopFlag
    label: str = ""
    key: str = ""
    input_keys: dict[str, str] = field(default_factory=dict[str, str])
    figures: dict[str, Any] = field(default_factory=dict[str, Any])  # printed and recorded
    notes: list[str] = field(default_factory=list[str])  # for the user, about the result
    quiet: bool = False
    place: RunPlace | None = None  # in the run
    started: float = field(default_factory=time.monotonic)

    @cached_property
    def earlier_seconds(self) -> float:
        """Seconds of earlier, interrupted runs of this stage, up to their last checkpoint."""
        return float(self.saved_progress().get("seconds", 0.0))

    @property
    def seconds(self) -> float:
        """Seconds that this stage has taken so far, in all runs."""
        return self.earlier_seconds + time.monotonic() - self.started

    def seed_for(self, *purpose: object) -> int:
        """Return the seed of a purpose, such as `seed_for("weights")`: see `derived_seed`."""
        return derived_seed(self.seed, *purpose)

    def progress(self, task: str, total: int | None, unit: str, done: int = 0) -> Progress:
        """Return a progress bar: `with context.progress("packing", n, "images") as bar: ...`.

        Args:
            task: what is done, as in "packing".
            total: units in all; None where that is not known.
            unit: the plural of what is counted, as in "images".
            done: units that an interrupted run has done.
        """
        return Progress(
            f"{self.label}: {task}",
            total,
            unit,
            done,
            quiet=self.quiet,
            stage=self.place.text if self.place else "",
            run_left=self._run_left,
        )

    def _run_left(self, task_left: float | None) -> float | None:
        return self.place.seconds_left(self.seconds, task_left) if self.place else None

    def note(self, text: str) -> None:
        """Record a note for the user with the result; it is printed when the stage is done."""
        logger.info("%s: %s", self.label, text)
        self.notes.append(text)

    def save_progress(self, progress: str, **facts: Any) -> None:
        """Record the progress of the stage. Call it when the checkpoint is on the disk.

        Args:
            progress: a text for the plan: "epoch 3 of 10".
            facts: what `saved_progress` returns.
        """
        body = {"progress": progress, "seconds": round(self.seconds, 2), **facts}
        write_atomic(self.checkpoints / PROGRESS, json.dumps(body))

    def saved_progress(self) -> dict[str, Any]:
        """Return the facts of `save_progress` before an interruption; empty at the first start."""
        try:
            return read_json(self.checkpoints / PROGRESS)
        except CorruptArtifact:
            return {}

    def pause_point(self) -> None:
        """Raise Interrupted after a signal. Call it when everything worth keeping is saved."""
        self.stop.raise_if_set()


class StopFlag:
    """A flag that Ctrl-C and SIGTERM set, and stages read. A second signal ends the process."""

    def __init__(self) -> None:
        self.number = 0

    def listen(self) -> None:
        """Set the flag on the next signal instead of ending the process.

        Only the main thread of a process gets signals; a run in another one cannot be interrupted.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            restore_terminal()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number

    def raise_if_set(self) -> None:
        """Raise Interrupted if the flag is set."""
        if self.number:
            raise Interrupted(self.number)
