"""What a stage is given while it runs."""

from __future__ import annotations

import hashlib
import signal
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from transfer.artifacts import Images, read_json, write_json
from transfer.errors import CorruptArtifact, Interrupted
from transfer.utils.progress import Progress
from transfer.utils.runtime import Runtime


@dataclass
class StageContext:
    """The inputs of a stage, where its files go, and the machine that it runs on."""

    folder: Path  # what is written here becomes the artifact
    checkpoints: Path  # what is written here survives a kill; empty at the first start
    inputs: dict[str, Any]  # option name -> artifact
    images: dict[str, Images]  # role -> packed images
    machine: Runtime
    seed: int
    stop: StopFlag
    label: str = ""
    key: str = ""
    input_keys: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(
        default_factory=dict
    )  # shown after the run, kept in the manifest
    notes: list[str] = field(default_factory=list)  # what a person should know of the result
    quiet: bool = False
    started: float = field(default_factory=time.monotonic)

    @cached_property
    def earlier_seconds(self) -> float:
        """Seconds that went into what interrupted runs of this stage left."""
        return float(self.saved_progress().get("seconds", 0.0))

    @property
    def seconds(self) -> float:
        """Seconds that this stage has taken so far, in all of its runs."""
        return self.earlier_seconds + time.monotonic() - self.started

    def seed_for(self, *purpose: object) -> int:
        """A seed of its own for each purpose, from the stage's seed alone: nothing depends on what was drawn before."""
        text = "\0".join(map(str, (self.seed, *purpose)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def progress(self, what: str, total: int, unit: str, done: int = 0) -> Progress:
        """A progress line: `with work.progress("packing", n, "images") as p: p.advance(k)`."""
        return Progress(f"{self.label}: {what}", total, unit, done, quiet=self.quiet)

    def note(self, text: str) -> None:
        """Tell the person something now, and keep it with the result."""
        self.notes.append(text)

    def save_progress(self, said: str, **facts: Any) -> None:
        """Record how far the stage is, after its checkpoint is safely on disk."""
        draft = self.checkpoints / "progress.draft"
        write_json(draft, {"said": said, "seconds": round(self.seconds, 2), **facts})
        draft.replace(self.checkpoints / "progress.json")

    def saved_progress(self) -> dict[str, Any]:
        """What `save_progress` recorded before the stage was interrupted; empty at a first start."""
        try:
            return read_json(self.checkpoints / "progress.json")
        except CorruptArtifact:
            return {}

    def pause_point(self) -> None:
        """Raise Stopped if a signal asked to stop. Call it where everything worth keeping is saved."""
        self.stop.raise_if_set()


class StopFlag:
    """Ctrl-C and SIGTERM set a flag that stages look at; a second signal ends the process at once."""

    def __init__(self):
        self.number = 0

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number

    def raise_if_set(self) -> None:
        if self.number:
            raise Interrupted(self.number)
