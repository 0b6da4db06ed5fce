"""The columns that distinguish the rows of a table."""

from __future__ import annotations

from typing import Any

from transfer.comparison.table import Row

MAX_OPTION_COLUMNS = 3


def distinguishing_columns(rows: list[Row]) -> list[str]:
    """The names of the columns in which rows differ; their values are added to `row.variables`.

    Matrix variables come first. Where two rows agree in these, the stages' options follow, and at
    last the names of the stages.
    """
    names = dict.fromkeys(name for row in rows for name in row.variables)
    columns = [name for name in names if _varies(rows, name) and not _is_redundant(rows, name)]
    columns += _option_columns(rows, _indistinct(rows, columns))
    if _indistinct(rows, columns):
        for row in rows:
            row.variables["scores"] = row.label
        columns.append("scores")
    return columns


def _option_columns(rows: list[Row], indistinct: list[Row]) -> list[str]:
    """The options in which indistinct rows differ; none where these are too many for a table."""
    options = [row.lineage.options() for row in indistinct]
    names = dict.fromkeys(name for known in options for name in known)
    columns = [name for name in names if len({str(known.get(name)) for known in options}) > 1]
    if len(columns) > MAX_OPTION_COLUMNS:
        return []
    for row in rows if columns else ():
        known = row.lineage.options()
        row.variables.update({name: known[name] for name in columns if name in known})
    return columns


def _indistinct(rows: list[Row], columns: list[str]) -> list[Row]:
    """The rows that share their words and variables with another one."""
    cells = [
        (row.pretext, row.network, row.target, *(str(row.variables.get(name)) for name in columns))
        for row in rows
    ]
    return [row for row, own in zip(rows, cells, strict=True) if cells.count(own) > 1]


def _varies(rows: list[Row], name: str) -> bool:
    return len({str(row.variables[name]) for row in rows if name in row.variables}) > 1


def _is_redundant(rows: list[Row], name: str) -> bool:
    """Whether another column has the variable's value, as the pretext does for `method`."""
    rows = [row for row in rows if name in row.variables]
    return any(
        all(str(row.variables[name]) in words(row) for row in rows)
        for words in (_pretext_words, _network_words, _target_words)
    )


def _pretext_words(row: Row) -> set[Any]:
    words = {row.pretext}
    for planned in row.lineage.teachers[-1:]:
        words |= {planned.name, planned.uses}
    return words


def _network_words(row: Row) -> set[Any]:
    return {row.network, getattr(row.lineage.network, "name", "")}


def _target_words(row: Row) -> set[Any]:
    return {row.target, getattr(row.lineage.backbone, "name", "")}
