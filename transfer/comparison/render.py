"""A comparison as text, JSON, CSV, Markdown or LaTeX: the same rows in each, every digit where programs read them."""

from __future__ import annotations

import csv as csv_module
import io
import json as json_module
import re
import textwrap
from collections.abc import Callable
from typing import Any

from transfer.comparison.table import Comparison, Difference, Row, Section
from transfer.utils.formatting import duration, inline_yaml

NOTHING = "–"
WIDTH = 110  # of text
LISTED = 6  # names of one kind that are told one by one
LEGEND = (
    "a ± b: mean and deviation over n seeds. [low, high]: 95 %: of one seed, over its test images; of a difference,",
    "over pairs. time: all stages up to what is scored. images: those that it and its pretext learned from.",
)
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": "$-$",
    "→": r"$\to$",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


# Cells as a person reads them


def table_cells(section: Section) -> tuple[list[str], list[list[str]], int]:
    """Titles, rows of cells, and how many of the first columns hold words."""
    rows = section.rows
    words: dict[str, Callable[[Row], str]] = {"pretext": lambda row: row.pretext}
    if len({row.network for row in rows}) > 1:
        words["network"] = lambda row: row.network
    words["target"] = lambda row: row.target
    numbers: dict[str, Callable[[Row], str]] = {
        section.figure if section.figure.endswith("%") else f"{section.figure} %": _figure,
        "n": lambda row: str(row.figure.n),
        "− random": lambda row: _difference(row.random),
        "− supervised": lambda row: _difference(row.supervised),
        "time": lambda row: duration(row.seconds),
        "images": lambda row: NOTHING if row.images is None else f"{row.images:,}",
    }

    def variable(name: str) -> Callable[[Row], str]:
        return lambda row: inline_yaml(row.variables[name]) if name in row.variables else NOTHING

    columns = [
        *words.items(),
        *((name, variable(name)) for name in section.columns),
        *numbers.items(),
    ]
    titles = [title for title, _ in columns]
    return (
        titles,
        [[show(row) for _, show in columns] for row in rows],
        len(words) + len(section.columns),
    )


def row_titles(section: Section) -> list[str]:
    """Each row in a few words: `rotation · conv4 · k 20`."""
    titles, rows, words = table_cells(section)
    plain, found = words - len(section.columns), []
    for cells in rows:
        more = zip(titles[plain:words], cells[plain:words], strict=True)
        named = [f"{title} {cell}" for title, cell in more if cell != NOTHING]
        found.append(" · ".join([*(cell for cell in cells[:plain] if cell != NOTHING), *named]))
    return found


def _figure(row: Row) -> str:
    if row.figure.deviation is not None:
        return f"{row.figure.mean:.1f} ± {row.figure.deviation:.1f}"
    return f"{row.figure.mean:.1f}" + (
        f" [{row.figure.low:.1f}, {row.figure.high:.1f}]" if row.has_interval else ""
    )


def _difference(found: Difference | None) -> str:
    if found is None:
        return NOTHING
    interval = "" if found.low is None else f" [{found.low:.1f}, {found.high:.1f}]"
    return f"{found.mean:+.1f}{interval}".replace("-", "−")


def section_title(section: Section) -> str:
    """Protocol, image sets, the options that the file gives, and the network where all have the same."""
    sets = ", ".join(f"{role} {told}" for role, told in section.protocol_settings["images"].items())
    stage = section.rows[0].runs[0].planned.stage
    options = [
        name
        for name in type(stage).model_fields
        if name in stage.model_fields_set - {*stage.input_fields()}
    ]
    given = {name: inline_yaml(getattr(stage, name)) for name in options}
    networks = {row.network for row in section.rows}
    return " · ".join(
        [
            section.protocol,
            sets,
            f"n: {count_text(section.counts)}",
            *(
                f"{name} {value}"
                for name, value in given.items()
                if f"{name} {value}" not in section.protocol
            ),
            *(f"pretexts on {name}" for name in networks - {NOTHING} if len(networks) == 1),
        ]
    )


def count_text(counts: dict[str, int]) -> str:
    """`9,000 train, 1,000 test, 90 train (1 %)`; splits of nothing are left out."""
    told = ((name.partition(", "), count) for name, count in counts.items() if count)
    return ", ".join(
        f"{count:,} {name}" + (f" ({of})" if of else "") for (name, _, of), count in told
    )


def footer_lines(found: Comparison) -> list[str]:
    """What stands below the tables: notes, what is missing or damaged, and the commands that make it."""
    lines = [f"note: {note}" for note in found.notes]
    for what, scores in (("missing", found.missing), ("damaged", found.damaged)):
        for why in dict.fromkeys(one["why"] for one in scores):
            names = [one["stage"] for one in scores if one["why"] == why]
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            lines.append(f"{what}: {', '.join(names[:LISTED])}{more}: {why}")
    return [
        *lines,
        *(
            f"to make {'it' if len(found.missing + found.damaged) == 1 else 'them'}: {one}"
            for one in found.commands
        ),
    ]


def _wrapped(line: str, indent: str) -> list[str]:
    return textwrap.wrap(
        line,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


# Forms


def to_text(found: Comparison) -> str:
    """Aligned columns."""
    lines = []
    for section in found.sections:
        titles, rows, words = table_cells(section)
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        lines += _wrapped(section_title(section), "")
        for cells in (titles, *rows):
            padded = [
                cell.ljust(width) if place < words else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            lines.append("  ".join(["", *padded]).rstrip())
        lines += [line for note in section.notes for line in _wrapped(f"note: {note}", "  ")] + [""]
    told = [
        line
        for one in footer_lines(found)
        for line in ([one] if one.startswith("to make") else _wrapped(one, ""))
    ]
    return "\n".join([*lines, *(LEGEND if found.sections else ()), *told])


def to_markdown(found: Comparison) -> str:
    """A table a section, as GitHub and most viewers draw it."""
    lines = []
    for section in found.sections:
        titles, rows, words = table_cells(section)
        rule = ["---" if place < words else "---:" for place in range(len(titles))]
        lines += [f"**{_markdown(section_title(section))}**", ""]
        lines += [
            "| " + " | ".join(map(_markdown, cells)) + " |" for cells in (titles, rule, *rows)
        ]
        lines += ["", *(f"Note: {_markdown(note)}\n" for note in section.notes)]
    return "\n".join(
        [
            *lines,
            _markdown(" ".join(LEGEND)),
            *(f"\n- {_markdown(line)}" for line in footer_lines(found)),
        ]
    )


def _markdown(cell: str) -> str:
    return re.sub(r"([|*`\\<])", r"\\\1", cell)


def to_latex(found: Comparison) -> str:
    """A `tabular` a section; needs no package. What is missing stands in comments."""
    lines = []
    for section in found.sections:
        titles, rows, words = table_cells(section)
        lines += [f"% {section_title(section)}", *(f"% note: {note}" for note in section.notes)]
        lines += [rf"\begin{{tabular}}{{{'l' * words}{'r' * (len(titles) - words)}}}", r"\hline"]
        lines += [" & ".join(map(_latex, titles)) + r" \\", r"\hline"]
        lines += [" & ".join(map(_latex, cells)) + r" \\" for cells in rows]
        lines += [r"\hline", r"\end{tabular}", ""]
    return "\n".join([*lines, *(f"% {line}" for line in (*LEGEND, *footer_lines(found)))])


def _latex(cell: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in cell)


def to_csv(found: Comparison) -> str:
    """One table over all sections, a line a row, every digit; a variable called like a column is `matrix.NAME`."""
    records = [_record(section, row) for section in found.sections for row in section.rows]
    fixed = [name for name in _FLAT if name != "variables"]
    variables = list(dict.fromkeys(name for one in records for name in one["variables"]))
    file = io.StringIO()
    writer = csv_module.writer(file, lineterminator="\n")
    writer.writerow([*fixed, *(f"matrix.{name}" if name in fixed else name for name in variables)])
    for one in records:
        cells = [_FLAT[name](one) for name in fixed] + [
            one["variables"].get(name) for name in variables
        ]
        writer.writerow(
            [
                ""
                if cell is None
                else cell
                if isinstance(cell, (str, int, float))
                else inline_yaml(cell)
                for cell in cells
            ]
        )
    return file.getvalue().removesuffix("\n")


def _field(*path: str) -> Callable[[dict[str, Any]], Any]:
    def get(record: dict[str, Any]) -> Any:
        value: Any = record
        for name in path:
            value = None if value is None else value[name]
        return " ".join(map(str, value)) if isinstance(value, list) else value

    return get


_FLAT: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{
        name: _field(name)
        for name in (
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
        )
    },
    **{
        f"{other}_{name}": _field(other, name)
        for other in ("random", "supervised")
        for name in ("difference", "low", "high", "over", "seeds", "to")
    },
    **{name: _field(name) for name in ("seconds", "images", "stages", "keys", "files")},
}


def to_json(found: Comparison) -> str:
    """Everything, for scripts."""
    sections = [
        {
            "protocol": one.protocol,
            "figure": one.figure,
            "setting": one.protocol_settings,
            "counts": one.counts,
            "notes": one.notes,
            "rows": [_record(one, row) for row in one.rows],
        }
        for one in found.sections
    ]
    others = {
        "missing": found.missing,
        "damaged": found.damaged,
        "commands": found.commands,
        "notes": found.notes,
    }
    return json_module.dumps({"sections": sections, **others}, indent=1, ensure_ascii=False)


def _record(section: Section, row: Row) -> dict[str, Any]:
    tests = [told for role, told in section.protocol_settings["images"].items() if role != "train"]
    return {
        "protocol": section.protocol,
        "test_images": ", ".join(tests),
        "pretext": row.pretext,
        "network": row.network,
        "target": row.target,
        "variables": row.variables,
        "figure": section.figure,
        "mean": row.figure.mean,
        "deviation": row.figure.deviation,
        "low": row.figure.low if row.has_interval else None,
        "high": row.figure.high if row.has_interval else None,
        "n": row.figure.n,
        "seeds": [run.lineage.seed for run in row.runs],
        "values": [run.value for run in row.runs],
        "random": _difference_record(row.random),
        "supervised": _difference_record(row.supervised),
        "seconds": row.seconds,
        "training_seconds": row.training,
        "images": row.images,
        "selected": [run.card.selected for run in row.runs],
        "stages": [run.planned.label for run in row.runs],
        "keys": [run.planned.key for run in row.runs],
        "files": list(dict.fromkeys(str(run.pipeline.plan.file) for run in row.runs)),
    }


def _difference_record(one: Difference | None) -> dict[str, Any] | None:
    names = ("low", "high", "over", "seeds", "to")
    return one and {"difference": one.mean} | {name: getattr(one, name) for name in names}


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": to_text,
    "json": to_json,
    "csv": to_csv,
    "markdown": to_markdown,
    "latex": to_latex,
}
