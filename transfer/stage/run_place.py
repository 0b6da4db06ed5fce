# pyright: strict
"""The place of a stage in a run, and how much of the run is left."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunPlace:
    """The place of a stage in a run, and the seconds that its stages are expected to take."""

    number: int  # counted from 1
    total: int
    own_seconds: float | None = None  # None where they are not known
    later_seconds: float | None = None  # of all later stages

    @property
    def text(self) -> str:
        """The place in words: `stage 3 of 12`."""
        return f"stage {self.number} of {self.total}"

    def seconds_left(self, spent: float, task_left: float | None) -> float | None:
        """Return the seconds left of the run; None where they are not known.

        A stage may have several tasks, so the one that runs gives a lower bound only.

        Args:
            spent: seconds that the stage has taken so far.
            task_left: seconds left of the task that runs; None where they are not known.
        """
        expected = None if self.own_seconds is None else max(0.0, self.own_seconds - spent)
        own = [seconds for seconds in (expected, task_left) if seconds is not None]
        if self.later_seconds is None or not own:
            return None
        return max(own) + self.later_seconds
