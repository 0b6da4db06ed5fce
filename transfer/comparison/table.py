"""The data of a comparison: sections of rows, with the differences between rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transfer.comparison.lineage import RANDOM, Lineage
from transfer.comparison.score_status import FinishedScore
from transfer.numerics.confidence_intervals import Estimate


@dataclass(frozen=True)
class Difference:
    """The figure of a row minus that of a reference row, in percentage points.

    Runs are paired by seed or by test image; the 95 % interval is over these pairs. Fewer than
    three seeds have none.
    """

    mean: float
    to: str  # the label of the reference row
    seeds: int = 0  # seeds that both rows have; 0 where no runs pair
    low: float | None = None
    high: float | None = None
    over: str = ""  # "seeds" or "test images"; empty without an interval
    values: tuple[float, ...] = ()  # of each pair of seeds


@dataclass
class Row:
    """Runs that differ only in their seeds."""

    label: str  # of its scores, without the seed
    runs: list[FinishedScore]
    figure: Estimate  # the interval is over seeds; of a single seed, over its test images
    variables: dict[str, Any]  # matrix variables that its runs share
    seconds: float | None  # of all stages up to the evaluated one; None: unknown
    training_seconds: float | None  # of the evaluated network alone; 0: not trained
    images: int | None  # on which its networks were trained; None: unknown
    pretext: str
    network: str = ""
    target: str = ""
    random: Difference | None = None  # to random weights
    supervised: Difference | None = None  # to supervised training

    @property
    def lineage(self) -> Lineage:
        """The lineage of its runs, which differ in the seed alone."""
        return self.runs[0].lineage

    @property
    def figure_by_seed(self) -> dict[str, float]:
        """Seed -> figure; empty where two runs share a seed, because pairs are then ambiguous."""
        figures = {run.lineage.seed: run.value for run in self.runs}
        return figures if len(figures) == len(self.runs) else {}


@dataclass
class Section:
    """Rows that can be compared: one protocol, its settings, one set of test images. Best first."""

    protocol: str
    figure: str  # the name of the main figure, as the scores give it
    protocol_settings: dict[str, Any]
    counts: dict[str, int]  # images of each split
    rows: list[Row]
    columns: list[str]  # the variables in which rows differ
    notes: list[str]

    @property
    def trained_rows(self) -> list[tuple[Row, float]]:
        """The rows whose network was trained, with the seconds that it took."""
        return [(row, row.training_seconds) for row in self.rows if row.training_seconds]

    @property
    def baselines(self) -> list[Row]:
        """The rows of networks with random weights, which nothing was taught."""
        return [row for row in self.rows if row.lineage.is_pretext(RANDOM)]


@dataclass(frozen=True)
class OmittedScore:
    """A score that is in no table, and why."""

    stage: str
    file: str
    reason: str


@dataclass
class Comparison:
    """The result of `transfer compare`; `commands` make what is missing and repair the damage."""

    sections: list[Section]
    missing: list[OmittedScore]
    damaged: list[OmittedScore]
    commands: list[str]
    notes: list[str]

    @property
    def omitted(self) -> list[OmittedScore]:
        """The requested scores that are in no table."""
        return [*self.missing, *self.damaged]
