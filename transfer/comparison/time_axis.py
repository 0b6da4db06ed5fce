"""A logarithmic axis of training time with round numbers, for terminals and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from transfer.utils.formatting import duration

LEAST_LOG_RANGE = 0.1  # of the logarithm of seconds
SECONDS, MINUTES, HOURS, DAYS = (1, 2, 5, 10, 30), (1, 2, 5, 10, 30), (1, 2, 5, 10), (1, 7, 30, 90)
TICKS = (
    *(10.0**power * factor for power in (-3, -2, -1) for factor in (1, 2, 5)),
    *SECONDS,
    *(60 * minutes for minutes in MINUTES),
    *(3600 * hours for hours in HOURS),
    *(86400 * days for days in DAYS),
)


@dataclass(frozen=True)
class TimeAxis:
    """An axis with at least two numbers on it; its ends are logarithms of seconds."""

    low: float
    high: float

    @staticmethod
    def over(seconds: Sequence[float]) -> TimeAxis:
        """An axis over times above zero; it reaches to round times where few lie between them."""
        low, high = math.log(min(seconds)), math.log(max(seconds))
        if high - low < LEAST_LOG_RANGE:
            low, high = (low + high - LEAST_LOG_RANGE) / 2, (low + high + LEAST_LOG_RANGE) / 2
        axis = TimeAxis(low, high)
        if len(axis.ticks()) >= 2:
            return axis
        logs = [math.log(tick) for tick in TICKS]
        return TimeAxis(
            max([tick for tick in logs if tick <= low], default=low),
            min([tick for tick in logs if tick >= high], default=high),
        )

    def share(self, seconds: float) -> float:
        """Where a time lies on the axis, from 0 to 1."""
        return (math.log(seconds) - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """The places of the round times from 0 to 1, with their texts."""
        inside = [tick for tick in TICKS if -1e-9 <= self.share(tick) <= 1 + 1e-9]
        return [(self.share(tick), _text(tick)) for tick in inside]


def _text(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 1 else duration(seconds).replace(".0", "")
