"""StageContext: what a stage is given while it runs."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from transfer.artifacts import Images, read_json
from transfer.errors import CorruptArtifact, Interrupted
from transfer.utils.files import write_atomic
from transfer.utils.progress import Progress
from transfer.utils.runtime import Runtime

logger = logging.getLogger(__name__)

PROGRESS = "progress.json"


def derived_seed(seed: int, *purpose: object) -> int:
    """A seed for a purpose, derived from a stage's seed alone.

    Each purpose draws from numbers of its own, so nothing depends on what was drawn before.
    """
    text = "\0".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass
class StageContext:
    """The inputs of a stage, the folders for its files, and the device that it runs on."""

    folder: Path  # what is written here becomes the artifact
    checkpoints: Path  # what is written here survives a kill; empty at the first start
    inputs: dict[str, Any]  # option -> artifact
    images: dict[str, Images]  # role -> packed images
    runtime: Runtime
    seed: int
    stop: StopFlag
    label: str = ""
    key: str = ""
    input_keys: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)  # printed after the run, and recorded
    notes: list[str] = field(default_factory=list)  # what the user should know of the result
    quiet: bool = False
    started: float = field(default_factory=time.monotonic)

    @cached_property
    def earlier_seconds(self) -> float:
        """Seconds that interrupted runs of this stage took, up to their last checkpoint."""
        return float(self.saved_progress().get("seconds", 0.0))

    @property
    def seconds(self) -> float:
        """Seconds that this stage has taken so far, in all of its runs."""
        return self.earlier_seconds + time.monotonic() - self.started

    def seed_for(self, *purpose: object) -> int:
        """A seed for a purpose, such as `seed_for("weights")`: see `derived_seed`."""
        return derived_seed(self.seed, *purpose)

    def progress(self, task: str, total: int, unit: str, done: int = 0) -> Progress:
        """A progress bar: `with context.progress("packing", n, "images") as bar: bar.advance(k)`.

        Args:
            task: what is done, as in "packing".
            total: units in all.
            unit: the plural of what is counted, as in "images".
            done: units that an interrupted run has done.
        """
        return Progress(f"{self.label}: {task}", total, unit, done, quiet=self.quiet)

    def note(self, text: str) -> None:
        """Keep a note for the user with the result; it is printed when the stage is done."""
        logger.info("%s: %s", self.label, text)
        self.notes.append(text)

    def save_progress(self, progress: str, **facts: Any) -> None:
        """Record how far the stage is, once its checkpoint is safe on the disk.

        Args:
            progress: shown in the plan: "epoch 3 of 10".
            facts: what `saved_progress` is to return.
        """
        body = {"progress": progress, "seconds": round(self.seconds, 2), **facts}
        write_atomic(self.checkpoints / PROGRESS, json.dumps(body))

    def saved_progress(self) -> dict[str, Any]:
        """The facts that `save_progress` recorded before an interruption; empty at a first start."""
        try:
            return read_json(self.checkpoints / PROGRESS)
        except CorruptArtifact:
            return {}

    def pause_point(self) -> None:
        """Raise Interrupted after a signal. Call it where all that is worth keeping is saved."""
        self.stop.raise_if_set()


class StopFlag:
    """Set by Ctrl-C and SIGTERM, and read by stages; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.number = 0

    def listen(self) -> None:
        """Set the flag on the next signal instead of ending the process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number

    def raise_if_set(self) -> None:
        """Raise Interrupted if the flag is set."""
        if self.number:
            raise Interrupted(self.number)
