"""Progress with speed and time left: a live bar on a terminal, a line every 15 s elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress

LINE_EVERY = 15.0  # seconds between lines where stderr is not a terminal


class Progress:
    """Progress of a task.

    with Progress("packing", n, "images") as progress:
        progress.advance(batch)
    """

    def __init__(self, task: str, total: int, unit: str, done: int = 0, quiet: bool = False):
        """Describe the task.

        Args:
            task: what is done, as in "packing".
            total: units in all.
            unit: the plural of what is counted, as in "images".
            done: units that an interrupted run has done.
            quiet: print nothing.
        """
        self.task, self.total, self.unit, self.done, self.quiet = task, total, unit, done, quiet
        self._start_done, self._text = done, ""
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Progress:
        self._start = self._last_line = time.monotonic()
        if sys.stderr.isatty() and not self.quiet:
            self._open_bar()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self._start_done) / max(1e-9, time.monotonic() - self._start)

    def advance(self, count: int) -> None:
        """Report that `count` more units are done."""
        self.done += count
        if self._bar is not None:
            rate = f"{self.rate:,.0f} {self.unit}/s"
            self._bar.update(self._bar_id, completed=self.done, rate=rate, text=self._text)
        elif not self.quiet and time.monotonic() - self._last_line > LINE_EVERY:
            self._last_line = time.monotonic()
            self._print_line()

    def say(self, text: str) -> None:
        """Set the text after the bar, such as the loss."""
        self._text = text

    def _open_bar(self) -> None:
        from rich import progress as bars
        from rich.console import Console

        columns = [
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=24),
            bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TextColumn("{task.fields[text]}"),
            bars.TimeRemainingColumn(compact=True),
        ]
        self._bar = bars.Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar_id = self._bar.add_task(
            self.task, total=self.total, completed=self.done, rate="", text=""
        )
        self._bar.start()

    def _print_line(self) -> None:
        left = (self.total - self.done) / max(self.rate, 1e-9)
        share = 100 * self.done // max(1, self.total)
        speed = f"{self.rate:,.0f} {self.unit}/s"
        text = f"  {self.task} {share} %, {speed}, {_clock(left)} left"
        text += self._text and f"; {self._text}"
        print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """`4:05`, `1:04:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
