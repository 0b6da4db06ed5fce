"""Tables that objects show of themselves: aligned text in a terminal, HTML in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_ROWS = 60  # of a table; the number of the others is shown
MAX_UNBROKEN = 44  # characters of a cell that HTML does not break
MAX_CELL = 72  # characters of a cell of text
STYLE = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"


@dataclass(frozen=True)
class ReprTable:
    """A caption, titles of columns, and rows of cells."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""  # a line below the table

    def text(self) -> str:
        """The table with aligned columns; long cells are cut."""
        rows = [[_cut(cell) for cell in row] for row in self.rows[:MAX_ROWS]]
        lines = [self.titles, *rows] if rows else []
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = [
            "  ".join(["", *(cell.ljust(width) for cell, width in zip(row, widths, strict=True))])
            for row in lines
        ]
        ends = [f"  {text}" for text in (self._more(), self.note) if text]
        return "\n".join([self.caption, *(text.rstrip() for text in texts), *ends])

    def html(self) -> str:
        """The table as HTML that scrolls where it is wider than the page; all text is escaped."""
        from markupsafe import Markup

        title, cell = Markup('<th scope="col" style="{}">{}</th>'), Markup('<td style="{}">{}</td>')
        row = Markup("<tr>{}</tr>")
        head = Markup("").join(title.format(_style(name), name) for name in self.titles)
        body = [
            row.format(Markup("").join(cell.format(_style(value), value) for value in cells))
            for cells in self.rows[:MAX_ROWS]
        ]
        notes = [text for text in (self._more(), self.note) if text]
        table = Markup(
            '<table style="border-collapse:collapse"><thead>{}</thead><tbody>{}</tbody></table>'
        )
        page = Markup(
            '<div style="overflow-x:auto;margin-bottom:12px">'
            '<div style="overflow-wrap:anywhere">{}</div>{}{}</div>'
        )
        return str(
            page.format(
                self.caption,
                table.format(row.format(head), Markup("\n").join(body)) if self.rows else "",
                Markup("").join(Markup("<div>{}</div>").format(note) for note in notes),
            )
        )

    def _more(self) -> str:
        more = len(self.rows) - MAX_ROWS
        return f"and {more} more" if more > 0 else ""


def _style(cell: str) -> str:
    """Short cells stay in one line, and long ones are wide, so that no word stands alone."""
    return STYLE + (";white-space:nowrap" if len(cell) <= MAX_UNBROKEN else ";min-width:18em")


def _cut(cell: str) -> str:
    line = " ".join(cell.split())
    return line if len(line) <= MAX_CELL else f"{line[: MAX_CELL - 3]}..."
