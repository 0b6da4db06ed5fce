"""The tables of the comparison on the page, each with its best row and its plots."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from transfer.artifacts import Scores
from transfer.comparison.compare import compare
from transfer.comparison.figures import (
    figure_name,
    percent,
    points,
    row_figure_name,
    row_interval,
)
from transfer.comparison.lineage import RANDOM, SUPERVISED
from transfer.comparison.table import Comparison, Row, Section
from transfer.comparison.text_table import TextTable, row_titles, section_title, text_table
from transfer.errors import TransferError, UsageError
from transfer.report.collect import ReportData
from transfer.report.comparison_plots import IntervalPlot, interval_plot, is_reference, time_plot
from transfer.utils.formatting import MISSING


@dataclass(frozen=True)
class BestRow:
    """The best row of a table in a few words."""

    value: str
    interval: str  # or the deviation over seeds
    description: str
    differences: str  # to random weights and to supervised training
    figure: str
    protocol: str
    anchor: str


@dataclass(frozen=True)
class ComparisonTable:
    """A table of the comparison; `sources` has the text and the anchor of each run of a row."""

    protocol: str
    figure: str
    title: str
    table: TextTable
    sources: list[list[tuple[str, str]]]
    notes: list[str]
    best: BestRow
    test_set: str
    test_images: str
    intervals: IntervalPlot | None  # None for a single row
    over_time: Markup  # empty where too few rows were trained

    @property
    def is_single(self) -> bool:
        """Whether there is nothing to compare."""
        return len(self.table.rows) == 1

    @property
    def rows(self) -> list[tuple[list[str], list[tuple[str, str]]]]:
        """The cells of each row with its sources."""
        return list(zip(self.table.rows, self.sources, strict=True))


def compare_report(report: ReportData) -> tuple[Comparison | None, str]:
    """The comparison of all scores, and why there is none."""
    try:
        return compare([report.pipeline]), ""
    except UsageError:
        return None, ""  # no stage of the file evaluates anything
    except TransferError as error:
        return None, str(error)


def comparison_tables(comparison: Comparison | None) -> list[ComparisonTable]:
    """All tables of the comparison."""
    return [_table(section) for section in comparison.sections] if comparison else []


def _table(section: Section) -> ComparisonTable:
    titles = row_titles(section)
    images = section.protocol_settings["images"]
    test_sets = [name.partition(" (")[0] for role, name in images.items() if role != "train"]
    test_images = Scores.tested(section.counts)
    best = _best_row(section, titles)
    return ComparisonTable(
        section.protocol,
        best.figure if len(section.rows) == 1 else figure_name(section.figure),
        section_title(section),
        text_table(section),
        [_sources(row) for row in section.rows],
        section.notes,
        best,
        ", ".join(test_sets),
        MISSING if test_images is None else f"{test_images:,}",
        interval_plot(section, titles) if len(section.rows) > 1 else None,
        time_plot(section),
    )


def _sources(row: Row) -> list[tuple[str, str]]:
    """The text and the anchor of each run."""
    return [
        (
            f"seed {run.lineage.seed}" if len(row.runs) > 1 else run.planned.name,
            f"made-{run.planned.key}",
        )
        for run in row.runs
    ]


def _best_row(section: Section, titles: list[str]) -> BestRow:
    """The best row that learned without labels; the best of all where none did."""
    rows = section.rows
    unlabeled = [
        row for row in rows if not is_reference(row, SUPERVISED) and not is_reference(row, RANDOM)
    ]
    row = (unlabeled or rows)[0]
    interval = " ".join(row_interval(row))
    if row.figure.deviation is not None:
        interval = f"± {row.figure.deviation:.1f} over {row.figure.n} seeds"
    rank = f"best of {len(rows)}: " if len(rows) > 1 else ""
    if 0 < len(unlabeled) < len(rows):
        count = len(unlabeled)
        rank = f"best of {count} that learned without labels: " if count > 1 else ""
    differences = [
        f"{points(difference.mean)} points to {name}"
        for name, difference in (("random weights", row.random), ("supervised", row.supervised))
        if difference
    ]
    return BestRow(
        percent(row.figure.mean),
        interval,
        rank + titles[rows.index(row)],
        ", ".join(differences),
        row_figure_name(section, row),
        section.protocol,
        f"made-{row.runs[0].planned.key}",
    )
