"""Counts the units of a task that are done, with speed and time left."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

from transfer.utils.progress_display import shared_display
from transfer.utils.progress_layout import Snapshot

SHOW_EVERY = 0.1  # seconds between reports to the display

_numbers = itertools.count()


class Progress:
    """Progress of a task.

    with Progress("packing", n, "images") as progress:
        progress.advance(batch)
    """

    def __init__(
        self,
        task: str,
        total: int | None,
        unit: str,
        done: int = 0,
        quiet: bool = False,
        stage: str = "",
        run_left: Callable[[float | None], float | None] | None = None,
    ):
        """Describe the task.

        Args:
            task: what is done, as in "packing".
            total: units in all; None where that is not known.
            unit: the plural of what is counted, as in "images".
            done: units that an interrupted run has done.
            quiet: print nothing.
            stage: the place of its stage in the run, as in "stage 3 of 12".
            run_left: returns the seconds left of the run from those of the task; either may be
                unknown.
        """
        self.task, self.total, self.unit, self.done, self.quiet = task, total, unit, done, quiet
        self.stage, self.run_left = stage, run_left
        self._start_done, self._text = done, ""
        self._name = f"{next(_numbers)} {task}"  # of the task in the display

    def __enter__(self) -> Progress:
        self._start = time.monotonic()
        self._show()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.quiet:
            shared_display().remove(self._name)

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self._start_done) / max(1e-9, time.monotonic() - self._start)

    def advance(self, count: int) -> None:
        """Report that `count` more units are done."""
        self.done += count
        if time.monotonic() - self._shown >= SHOW_EVERY:
            self._show()

    def say(self, text: str) -> None:
        """Set the text after the bar, such as the loss; its parts are separated by ", "."""
        self._text = text

    def _show(self) -> None:
        self._shown = time.monotonic()
        if self.quiet:
            return
        shown = Snapshot(
            self.task, self.unit, self.done, self.total, self.rate, self._text, self.stage
        )
        if self.run_left is not None:
            shown = replace(shown, run_left=self.run_left(shown.seconds_left))
        shared_display().show(self._name, shown)
