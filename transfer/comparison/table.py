"""What a comparison is: rows of scores, their differences, and the tables that they stand in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transfer.comparison.lineage import Lineage
from transfer.comparison.load_scores import Score
from transfer.numerics.confidence_intervals import Estimate


@dataclass(frozen=True)
class Difference:
    """A row's figure less that of the row called `to`; where they pair, its 95 % interval over seeds or test images.

    seeds: how many both have, and the difference is of; 0 where none is known to pair.
    """

    mean: float
    to: str
    seeds: int = 0
    low: float | None = None
    high: float | None = None
    over: str = ""


@dataclass
class Row:
    """Runs that differ in nothing but their seeds. Seconds and images are None where they are not known.

    seconds: of all stages up to what is scored; training: of the network that is scored alone.
    """

    label: str  # what its scores are called, whatever their seed
    runs: list[Score]
    figure: Estimate
    has_interval: bool  # the estimate has an interval
    variables: dict[str, Any]
    seconds: float | None
    training: float | None
    images: int | None
    pretext: str
    network: str = ""
    target: str = ""
    random: Difference | None = None
    supervised: Difference | None = None

    @property
    def lineage(self) -> Lineage:
        return self.runs[0].lineage

    @property
    def by_seed(self) -> dict[str, float]:
        """The figure of each seed; empty where two runs have the same, for then nothing says how they pair."""
        found = {run.lineage.seed: run.value for run in self.runs}
        return found if len(found) == len(self.runs) else {}


@dataclass
class Section:
    """Rows that can be compared: one protocol with the same settings, one set of test images. Best first."""

    protocol: str
    figure: str
    protocol_settings: dict[str, Any]
    counts: dict[str, int]
    rows: list[Row]
    columns: list[str]  # the variables that tell rows apart
    notes: list[str]

    @property
    def timed(self) -> list[Row]:
        """The rows whose network was trained, and whose training's time is known."""
        return [row for row in self.rows if row.training]


@dataclass
class Comparison:
    """All that `transfer compare` says; `commands` make what is missing and mend what is damaged."""

    sections: list[Section]
    missing: list[dict[str, str]]
    damaged: list[dict[str, str]]
    commands: list[str]
    notes: list[str]
