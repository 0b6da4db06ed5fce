"""The text of a progress display: what fits into a line of a given width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MIN_BAR, FULL_BAR = 8, 24  # cells
BAR_BESIDE_FIGURES = 10
SHORT_TASK = 16  # cells below which the time left of the run gives way to the task's name


@dataclass(frozen=True)
class Snapshot:
    """The state of a task that takes time."""

    task: str  # "pretext[seed=0]: training"
    unit: str  # the plural of what is counted
    done: int
    total: int | None  # None where it is not known
    rate: float = 0.0  # units per second
    text: str = ""  # "epoch 2/6, loss 2.1"
    stage: str = ""  # "stage 3 of 12"
    run_left: float | None = None  # seconds of the whole run; None where they are not known

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the task is done; None where that is not known."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate

    @property
    def share(self) -> str:
        """The part that is done: `34 %`, or the count where the total is not known."""
        if self.total is None:
            return f"{self.done:,} {self.unit}"
        return f"{100 * min(self.done, self.total) // max(1, self.total)} %"

    @property
    def speed(self) -> str:
        """The rate with its unit: `1,204 images/s`; empty before the first unit."""
        if not self.rate:
            return ""
        digits = ",.0f" if self.rate >= 10 else ".1f" if self.rate >= 0.1 else ".1g"
        return f"{self.rate:{digits}} {self.unit}/s"

    def line(self) -> str:
        """Return everything in one line, for a log."""
        facts = [f"{printable(self.task)} {self.share}", self.speed]
        facts.append(_left(self.seconds_left, ""))
        facts.append(_left(self.run_left, "run ~"))
        text = ", ".join(filter(None, [self.stage, *facts]))
        return f"  {text}" + (f"; {self.text}" if self.text else "")


def heading(
    snapshot: Snapshot, width: int, measure: Callable[[str], int] = len, age: float = 0.0
) -> str:
    """Return the line above a bar: the stage, its task and the time left of the whole run.

    Args:
        snapshot: the state of the task.
        width: cells of the line.
        measure: returns the cells of a text.
        age: seconds since the state was reported.
    """
    task, stage = printable(snapshot.task), snapshot.stage
    run = _left(snapshot.run_left, "run ~", age)
    room = width - sum(measure(text) + 2 for text in (stage, run) if text)
    if room < min(measure(task), SHORT_TASK):
        room, run = width - (measure(stage) + 2 if stage else 0), ""
    if room < MIN_BAR:
        room, stage = width, ""
    return "  ".join(filter(None, [stage, shortened(task, room, measure), run]))


def bar_texts(snapshot: Snapshot, width: int, age: float = 0.0) -> tuple[int, str]:
    """Return the cells of the bar, and the text after it, which is shorter than the rest.

    The bar, the speed and the time left come first; figures take the place that is left.

    Args:
        snapshot: the state of the task.
        width: cells of the line.
        age: seconds since the state was reported.
    """
    time_left = _left(snapshot.seconds_left, "", age)
    facts = [fact for fact in (f"{snapshot.share:>5}", snapshot.speed, time_left) if fact]
    while len(facts) > 1 and width - len("  ".join(facts)) - 2 < MIN_BAR:
        facts.pop(1)
    text = "  ".join(facts)
    bar = max(0, min(FULL_BAR, width - len(text) - 2))
    for part in snapshot.text.split(", ") if snapshot.text else ():
        separator = "  " if text == "  ".join(facts) else ", "
        longer = text + separator + part
        room = width - len(longer) - 2
        if room < BAR_BESIDE_FIGURES:
            break
        text, bar = longer, min(bar, room)
    return (bar if bar >= MIN_BAR else 0), text[:width]


def printable(text: str) -> str:
    """Return a name without characters that would move the cursor."""
    return "".join(char if char.isprintable() else "?" for char in text)


def shortened(text: str, width: int, measure: Callable[[str], int] = len) -> str:
    """Return `text` with its middle left out where it is wider than `width` cells."""
    if measure(text) <= width:
        return text
    half = len(text) // 2
    for removed in range(2, len(text)):
        start, end = half - removed // 2, half + (removed + 1) // 2
        if measure(shorter := f"{text[:start]}..{text[end:]}") <= width:
            return shorter
    return text[: max(0, width)]


def clock(seconds: float) -> str:
    """Format seconds as a clock does: `4:05`, `1:04:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _left(seconds: float | None, before: str, age: float = 0.0) -> str:
    return "" if seconds is None else f"{before}{clock(max(0.0, seconds - age))} left"
