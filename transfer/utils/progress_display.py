"""Where progress goes: live bars on a terminal, a line now and then elsewhere.

A process has one display, on stderr, which all of its tasks share. A child process of `-j` reports
to its parent instead.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from transfer.utils.progress_layout import Snapshot, bar_texts, heading

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live

FIRST_LINE, LAST_INTERVAL = 15.0, 600.0  # seconds between lines, which become rarer
REFRESHES = 8  # per second


class Display(Protocol):
    """Shows the state of tasks."""

    def show(self, name: str, snapshot: Snapshot) -> None:
        """Show the present state of the task called `name`."""
        ...

    def remove(self, name: str) -> None:
        """Remove a task that has ended."""
        ...


class LineDisplay:
    """Prints a line about a task: after 15 s, and later after a tenth of the time it has taken."""

    def __init__(self) -> None:
        self._times: dict[str, tuple[float, float]] = {}  # task -> its start, its last line

    def show(self, name: str, snapshot: Snapshot) -> None:
        now = time.monotonic()
        start, last = self._times.setdefault(name, (now, now))
        if now - last >= min(LAST_INTERVAL, max(FIRST_LINE, (now - start) / 10)):
            self._times[name] = start, now
            print(snapshot.line(), file=sys.stderr, flush=True)

    def remove(self, name: str) -> None:
        self._times.pop(name, None)


class LiveDisplay:
    """Draws two lines a task, below everything that is printed meanwhile."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[Snapshot, float]] = {}  # with the time of the report
        self._live: Live | None = None
        self.lock = threading.RLock()

    def show(self, name: str, snapshot: Snapshot) -> None:
        with self.lock:
            self._tasks[name] = snapshot, time.monotonic()
            if self._live is None:
                self._live = self._start()

    def remove(self, name: str) -> None:
        with self.lock:
            self._tasks.pop(name, None)
            if not self._tasks:
                self._stop()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the bars while this thread prints; other threads wait."""
        with self.lock:
            self._stop()
            try:
                yield
            finally:
                if self._tasks:
                    self._live = self._start()

    def show_cursor(self) -> None:
        """Show the cursor again in a process that is about to be killed."""
        if self._live is not None and sys.__stderr__ is not None:
            sys.__stderr__.write("\x1b[?25h")
            sys.__stderr__.flush()

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Yield the lines of each task; the width is that of the terminal at this moment."""
        from rich.cells import cell_len
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        for snapshot, reported in list(self._tasks.values()):
            age = time.monotonic() - reported
            title = heading(snapshot, options.max_width, cell_len, age)
            yield Text(title, no_wrap=True, overflow="crop")
            width, text = bar_texts(snapshot, options.max_width, age)
            row: list[RenderableType] = [Text(text, no_wrap=True, overflow="crop")]
            if width:
                total = None if snapshot.total is None else max(1, snapshot.total)
                row.insert(0, ProgressBar(total=total, completed=snapshot.done, width=width))
            grid = Table.grid(padding=(0, 2, 0, 0))
            grid.add_row(*row)
            yield grid

    def _start(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        live = Live(
            self,
            console=Console(stderr=True),
            refresh_per_second=REFRESHES,
            transient=True,
            # What is printed to a file or a pipe goes there, not above the bars.
            redirect_stdout=sys.stdout.isatty(),
        )
        live.start()
        return live

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


_display: Display | None = None


def shared_display() -> Display:
    """Return the display of this process, which suits its stderr."""
    global _display
    if _display is None:
        _display = LiveDisplay() if _draws_lines_again() else LineDisplay()
    return _display


def use_display(display: Display | None) -> None:
    """Show the progress of this process elsewhere; None: where it suits its stderr."""
    global _display
    _display = display


def bars_hidden() -> AbstractContextManager[None]:
    """Return the context in which lines are printed above the bars."""
    return _display.hidden() if isinstance(_display, LiveDisplay) else nullcontext()


def restore_terminal() -> None:
    """Undo what bars did to the terminal, in a process that is about to be killed."""
    if isinstance(_display, LiveDisplay):
        _display.show_cursor()


def _draws_lines_again() -> bool:
    """Whether stderr is a terminal that can move its cursor."""
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return sys.stderr.isatty() and not dumb
