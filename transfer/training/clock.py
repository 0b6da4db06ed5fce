"""Measures how long a training loop waits for data."""

from __future__ import annotations

import time


class Clock:
    """The time of a loop, divided into waiting for data and computing."""

    def __init__(self) -> None:
        self.waited = self.computed = 0.0

    def start(self) -> None:
        """Start to wait."""
        self._since = time.perf_counter()

    def stop_waiting(self) -> None:
        """Start to compute."""
        now = time.perf_counter()
        self.waited, self._since = self.waited + now - self._since, now

    def stop_computing(self) -> None:
        """Stop until the next start."""
        self.computed += time.perf_counter() - self._since

    @property
    def waiting_percent(self) -> float:
        """The share of time spent waiting."""
        return 100 * self.waited / max(1e-9, self.waited + self.computed)
