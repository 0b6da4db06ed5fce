"""Measuring side by side: rounds in which sides take turns, seconds, and memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

# A side returns one value, or several by name.
Side = Callable[[], float | Mapping[str, float]]


class Rounds:
    """The values of sides that took turns: name -> one value a round."""

    def __init__(self, values: Mapping[str, list[float]]):
        self.values = dict(values)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def sums(self, *names: str) -> list[float]:
        """Each round's sum of the named sides."""
        return [sum(row) for row in zip(*(self.values[name] for name in names), strict=True)]

    def median(self, *names: str) -> float:
        """The median of the rounds' sums of the named sides."""
        return statistics.median(self.sums(*names))

    def ratio(self, name: str, *beside: str) -> float:
        """The median of each round's ratio of a side to the sum of the others."""
        pairs = zip(self.values[name], self.sums(*beside), strict=True)
        return statistics.median(value / other for value, other in pairs)


def take_turns(sides: Mapping[str, Side], rounds: int, warm_up: bool = True) -> Rounds:
    """Run all sides in turn, round by round.

    Args:
        sides: Name -> what measures it; a side that returns several values names them itself.
        rounds: How many rounds count.
        warm_up: Whether a round that does not count comes first.
    """
    values: dict[str, list[float]] = {}
    for turn in range(-1 if warm_up else 0, rounds):
        for name, side in sides.items():
            result = side()
            named = result if isinstance(result, Mapping) else {name: result}
            for key, value in named.items():
                values.setdefault(key, []).extend([value] if turn >= 0 else [])
    return Rounds(values)


def seconds_of(work: Callable[[], object]) -> float:
    """Run `work` once, and return the seconds that it took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_own_process(
    script: str, *words: object, preexec: Callable[[], object] | None = None
) -> list[float]:
    """Run a script in a process of its own, and return the numbers that it prints.

    Args:
        script: Its path.
        words: Its options.
        preexec: What the process calls before it becomes the script.
    """
    command = [sys.executable, script, *map(str, words)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=preexec
    )
    return [float(word) for word in done.stdout.split()]


def status_bytes(field: str) -> int:
    """A field of this process's memory, such as VmRSS (now) or VmHWM (at most so far), in bytes.

    `getrusage` will not do: a forked process counts its parent's peak as its own.
    """
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition(f"{field}:")[2].split()[0]) << 10
