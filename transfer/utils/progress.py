"""Progress: a live bar on a terminal, a line now and then elsewhere; images/s and time left in both."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress

LINE_EVERY = 15.0  # seconds between lines where there is no terminal


class Progress:
    """`advance(k)` after k of `total`; `say(text)` sets what stands behind the bar, such as the loss."""

    def __init__(self, what: str, total: int, unit: str, done: int = 0, quiet: bool = False):
        self.what, self.total, self.unit, self.done, self.quiet = what, total, unit, done, quiet
        self._start_done, self._text = done, ""
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Progress:
        self._start = self._last_line = time.monotonic()
        if sys.stderr.isatty() and not self.quiet:
            from rich import progress as bars
            from rich.console import Console

            columns = [
                bars.TextColumn("{task.description}"),
                bars.BarColumn(bar_width=24),
                bars.TaskProgressColumn(),
                bars.TextColumn("{task.fields[rate]}"),
                bars.TextColumn("{task.fields[said]}"),
                bars.TimeRemainingColumn(compact=True),
            ]
            self._bar = bars.Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(
                self.what, total=self.total, completed=self.done, rate="", said=""
            )
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self._start_done) / max(1e-9, time.monotonic() - self._start)

    def advance(self, count: int) -> None:
        self.done += count
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=self.done,
                rate=f"{self.rate:,.0f} {self.unit}/s",
                said=self._text,
            )
        elif not self.quiet and time.monotonic() - self._last_line > LINE_EVERY:
            self._last_line = time.monotonic()
            left = (self.total - self.done) / max(self.rate, 1e-9)
            share = 100 * self.done // max(1, self.total)
            text = f"  {self.what} {share} %, {self.rate:,.0f} {self.unit}/s, {_clock(left)} left"
            text += self._text and f"; {self._text}"
            print(text, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        self._text = text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
