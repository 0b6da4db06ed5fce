"""A comparison as CSV and JSON, with every digit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from transfer.comparison.table import Comparison, Difference, OmittedScore, Row, Section
from transfer.utils.formatting import inline_yaml

Record = dict[str, Any]


def to_csv(comparison: Comparison) -> str:
    """One table of all sections, a line for each row.

    A variable with the name of a column becomes `matrix.NAME`.
    """
    records = flat_records(comparison)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(dict.fromkeys(name for record in records for name in record))
    writer.writerows([map(_csv_cell, record.values()) for record in records])
    return file.getvalue().removesuffix("\n")


def row_records(comparison: Comparison) -> list[Record]:
    """The rows of all sections as `to_json` writes them."""
    return [_record(section, row) for section in comparison.sections for row in section.rows]


def flat_records(comparison: Comparison) -> list[Record]:
    """The rows of all sections with equal columns: those of `to_csv`."""
    records = row_records(comparison)
    fixed = [name for name in _FIELDS if name != "variables"]
    variables = dict.fromkeys(name for record in records for name in record["variables"])
    columns = {f"matrix.{name}" if name in fixed else name: name for name in variables}
    return [
        {name: _FIELDS[name](record) for name in fixed}
        | {column: record["variables"].get(name) for column, name in columns.items()}
        for record in records
    ]


def to_json(comparison: Comparison) -> str:
    """Everything, for scripts."""
    sections = [
        {
            "protocol": section.protocol,
            "figure": section.figure,
            "setting": section.protocol_settings,
            "counts": section.counts,
            "notes": section.notes,
            "rows": [_record(section, row) for row in section.rows],
        }
        for section in comparison.sections
    ]
    value = {
        "sections": sections,
        "missing": [_omitted_record(score) for score in comparison.missing],
        "damaged": [_omitted_record(score) for score in comparison.damaged],
        "commands": comparison.commands,
        "notes": comparison.notes,
    }
    return json.dumps(value, indent=1, ensure_ascii=False)


def _record(section: Section, row: Row) -> Record:
    images = section.protocol_settings["images"]
    return {
        "protocol": section.protocol,
        "test_images": ", ".join(name for role, name in images.items() if role != "train"),
        "pretext": row.pretext,
        "network": row.network,
        "target": row.target,
        "variables": row.variables,
        "figure": section.figure,
        "mean": row.figure.mean,
        "deviation": row.figure.deviation,
        "low": row.figure.low,
        "high": row.figure.high,
        "n": row.figure.n,
        "seeds": [run.lineage.seed for run in row.runs],
        "values": [run.value for run in row.runs],
        "random": _difference_record(row.random),
        "supervised": _difference_record(row.supervised),
        "seconds": row.seconds,
        "training_seconds": row.training_seconds,
        "images": row.images,
        "selected": [run.card.selected for run in row.runs],
        "stages": [run.planned.label for run in row.runs],
        "keys": [run.planned.key for run in row.runs],
        "files": list(dict.fromkeys(str(run.pipeline.plan.file) for run in row.runs)),
    }


def _difference_record(difference: Difference | None) -> Record | None:
    if difference is None:
        return None
    return {
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "over": difference.over,
        "seeds": difference.seeds,
        "values": list(difference.values),
        "to": difference.to,
    }


def _omitted_record(score: OmittedScore) -> Record:
    return {"stage": score.stage, "file": score.file, "why": score.reason}


def _csv_cell(value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, (str, int, float)) else inline_yaml(value)


def _field(*path: str) -> Callable[[Record], Any]:
    """Read a nested value of a record."""

    def read(record: Record) -> Any:
        value: Any = record
        for name in path:
            value = None if value is None else value[name]
        return value

    return read


_PLAIN_FIELDS = (
    "protocol",
    "test_images",
    "pretext",
    "network",
    "target",
    "variables",
    "figure",
    "mean",
    "deviation",
    "low",
    "high",
    "n",
    "seeds",
    "values",
)
_COST_FIELDS = ("seconds", "images", "stages", "keys", "files")
_FIELDS: dict[str, Callable[[Record], Any]] = {
    **{name: _field(name) for name in _PLAIN_FIELDS},
    **{
        f"{reference}_{name}": _field(reference, name)
        for reference in ("random", "supervised")
        for name in ("difference", "low", "high", "over", "seeds", "values", "to")
    },
    **{name: _field(name) for name in _COST_FIELDS},
}
