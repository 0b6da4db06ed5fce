"""A comparison as aligned text, Markdown or LaTeX; `FORMATS` has CSV and JSON too."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

from transfer.comparison.records import to_csv, to_json
from transfer.comparison.table import Comparison, OmittedScore, Section
from transfer.comparison.text_table import section_title, text_table

WIDTH = 80  # characters of a line of text, as of a usual terminal
LISTED_STAGES = 6  # named for each reason
LEGEND = (
    "pretext: how the teacher was trained. target: the student, or 'itself' for the teacher.",
    "a ± b: mean and standard deviation over n seeds. [low, high]: 95 % interval, of one seed over "
    "its test images, of a difference over pairs. (a, b): both differences of two seeds, too few "
    "for an interval. Differences are in percentage points. time: all stages up to the evaluated "
    "one. images: those that the network and its pretext trained on.",
)
COMMAND_LINE = "to make "  # begins the lines of the footer that hold a command
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


def footer_lines(comparison: Comparison) -> list[str]:
    """Notes, the missing and damaged scores, and the commands that make them."""
    pronoun = "it" if len(comparison.omitted) == 1 else "them"
    return [
        *(f"note: {note}" for note in comparison.notes),
        *_omitted_lines("missing", comparison.missing),
        *_omitted_lines("damaged", comparison.damaged),
        *(f"{COMMAND_LINE}{pronoun}: {command}" for command in comparison.commands),
    ]


def _omitted_lines(kind: str, scores: list[OmittedScore]) -> list[str]:
    """A line for each reason, with the stages that share it."""
    lines = []
    for reason in dict.fromkeys(score.reason for score in scores):
        names = [score.stage for score in scores if score.reason == reason]
        more = len(names) - LISTED_STAGES
        listed = ", ".join(names[:LISTED_STAGES]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"{kind}: {listed}: {reason}")
    return lines


def to_text(comparison: Comparison) -> str:
    """Aligned columns."""
    lines = []
    for section in comparison.sections:
        lines += [*_wrapped(section_title(section), ""), *_aligned(section)]
        for note in section.notes:
            lines += _wrapped(f"note: {note}", "  ")
        lines.append("")
    if comparison.sections:
        lines += [part for line in LEGEND for part in _wrapped(line, "", "")]
    for line in footer_lines(comparison):  # a command stays in one line, to be copied
        lines += [line] if line.startswith(COMMAND_LINE) else _wrapped(line, "")
    return "\n".join(lines)


def _aligned(section: Section) -> list[str]:
    """The rows of a table: words to the left, numbers to the right of their columns.

    Where a line would be too long, titles take several lines.
    """
    table = text_table(section)
    cells = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    titles = [[title] for title in table.titles]
    if sum(_widest(titles, cells)) + 2 * len(cells) > WIDTH:
        titles = [_title_lines(*pair) for pair in zip(table.titles, cells, strict=True)]
    widths = _widest(titles, cells)
    height = max(map(len, titles))
    heads = [[""] * (height - len(title)) + title for title in titles]
    rows = [*map(list, zip(*heads, strict=True)), *table.rows]
    lines = []
    for row in rows:
        words, numbers = row[: table.word_columns], row[table.word_columns :]
        padded = [cell.ljust(width) for cell, width in zip(words, widths, strict=False)]
        padded += [
            cell.rjust(width)
            for cell, width in zip(numbers, widths[table.word_columns :], strict=True)
        ]
        lines.append("  ".join(["", *padded]).rstrip())
    return lines


def _widest(titles: list[list[str]], cells: list[int]) -> list[int]:
    """The width of each column: of its cells, or of a longer line of its title."""
    return [max(width, *map(len, lines)) for lines, width in zip(titles, cells, strict=True)]


def _title_lines(title: str, width: int) -> list[str]:
    """Wrap a title at spaces, as narrow as its cells and its longest word allow.

    The sign of a difference stays with its first word.
    """
    bound = title.replace("− ", "−\N{NO-BREAK SPACE}")
    longest = max(map(len, bound.split(" ")))
    lines = textwrap.wrap(bound, max(width, longest), break_long_words=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _wrapped(line: str, indent: str, further: str = "  ") -> list[str]:
    return textwrap.wrap(
        line,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + further,
        break_long_words=False,
        break_on_hyphens=False,
    )


def to_markdown(comparison: Comparison) -> str:
    """A Markdown table for each section."""
    lines = []
    for section in comparison.sections:
        table = text_table(section)
        numbers = len(table.titles) - table.word_columns
        rule = ["---"] * table.word_columns + ["---:"] * numbers
        lines += [f"**{_escape_markdown(section_title(section))}**", ""]
        for cells in (table.titles, rule, *table.rows):
            lines.append("| " + " | ".join(map(_escape_markdown, cells)) + " |")
        lines += ["", *(f"Note: {_escape_markdown(note)}\n" for note in section.notes)]
    footer = [f"\n- {_escape_markdown(line)}" for line in footer_lines(comparison)]
    return "\n".join([*lines, _escape_markdown(" ".join(LEGEND)), *footer])


def _escape_markdown(cell: str) -> str:
    return re.sub(r"([|*`\\<])", r"\\\1", cell)


def to_latex(comparison: Comparison) -> str:
    """A `tabular` for each section, without packages; notes and missing scores are comments."""
    lines = []
    for section in comparison.sections:
        table = text_table(section)
        alignment = "l" * table.word_columns + "r" * (len(table.titles) - table.word_columns)
        lines += [f"% {section_title(section)}", *(f"% note: {note}" for note in section.notes)]
        lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\hline"]
        lines += [_latex_row(table.titles), r"\hline", *map(_latex_row, table.rows)]
        lines += [r"\hline", r"\end{tabular}", ""]
    return "\n".join([*lines, *(f"% {line}" for line in (*LEGEND, *footer_lines(comparison)))])


def _latex_row(cells: list[str]) -> str:
    return " & ".join(map(_escape_latex, cells)) + r" \\"


def _escape_latex(cell: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in cell)


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": to_text,
    "json": to_json,
    "csv": to_csv,
    "markdown": to_markdown,
    "latex": to_latex,
}
