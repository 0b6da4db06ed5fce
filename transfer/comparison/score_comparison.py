"""The comparison that Python gets: its rows, and the tables that the command prints."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from transfer.comparison.compare import compare
from transfer.comparison.records import Record, flat_records, row_records, to_csv, to_json
from transfer.comparison.render import LEGEND, footer_lines, to_latex, to_markdown, to_text
from transfer.comparison.table import Comparison
from transfer.comparison.text_table import section_title, text_table
from transfer.execution.open_pipeline import OpenPipeline
from transfer.utils.argument_checks import check_flags, names_argument
from transfer.utils.repr_tables import ReprTable


class ScoreComparison:
    """Finished scores in tables, best first; `str` gives what `transfer compare` prints."""

    def __init__(self, comparison: Comparison):
        self._comparison = comparison

    @property
    def rows(self) -> list[Record]:
        """The rows of all tables, as in `transfer compare --json`; each names its protocol."""
        return row_records(self._comparison)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.rows)

    def __len__(self) -> int:
        return sum(len(section.rows) for section in self._comparison.sections)

    def __str__(self) -> str:
        return to_text(self._comparison)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = []
        for section in self._comparison.sections:
            table = text_table(section)
            notes = "; ".join(section.notes)
            tables.append(ReprTable(section_title(section), table.titles, table.rows, notes).html())
        lines = [" ".join(LEGEND), *footer_lines(self._comparison)]
        ends = [ReprTable(line, (), ()).html() for line in lines]
        return "\n".join([*tables, *ends])

    def to_pandas(self) -> Any:
        """Return a frame with the columns of `transfer compare --csv`; ImportError without pandas.

        Columns of seeds, values, stages, keys and files hold lists.
        """
        try:
            library = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("to_pandas: pandas is missing; pip install pandas") from error
        return library.DataFrame(flat_records(self._comparison))

    def to_json(self) -> str:
        """Return everything as JSON."""
        return to_json(self._comparison)

    def to_csv(self) -> str:
        """Return one table of all rows as CSV, with every digit."""
        return to_csv(self._comparison)

    def to_markdown(self) -> str:
        """Return Markdown."""
        return to_markdown(self._comparison)

    def to_latex(self) -> str:
        """Return LaTeX, a `tabular` for each table."""
        return to_latex(self._comparison)


def compare_scores(
    pipelines: Sequence[OpenPipeline],
    stages: Sequence[str],
    protocols: Sequence[str],
    paired: bool,
) -> ScoreComparison:
    """Check the arguments of Python's entry, and compare.

    Args:
        pipelines: whose finished scores are compared.
        stages: only these evaluation stages; all where it is empty.
        protocols: only these protocols; all where it is empty.
        paired: pair single seeds over their test images.
    """
    check_flags(paired=paired)
    stages = names_argument("stages", stages, "linear")
    protocols = names_argument("protocols", protocols, "linear")
    return ScoreComparison(compare(pipelines, protocols=protocols, stages=stages, paired=paired))
