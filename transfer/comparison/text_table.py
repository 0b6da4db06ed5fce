"""The cells of a table as text, for every output format that people read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transfer.comparison.figures import figure_name, points, row_figure, row_figure_name
from transfer.comparison.table import Difference, Row, Section
from transfer.utils.formatting import MISSING, duration, inline_yaml

RowText = Callable[[Row], str]
DIFFERENCES = ("− random", "− supervised")  # columns that are left out where no row has one


@dataclass(frozen=True)
class TextTable:
    """Titles and rows of cells; the first `word_columns` columns hold words, the rest numbers."""

    titles: list[str]
    rows: list[list[str]]
    word_columns: int


def text_table(section: Section) -> TextTable:
    """The table of a section."""
    words = _word_columns(section) + [(name, _variable(name)) for name in section.columns]
    names = list(dict.fromkeys(row_figure_name(section, row) for row in section.rows))
    if len(names) > 1:  # rows of different layers
        words.append(("layer", _layers))
    title = names[0] if len(names) == 1 else figure_name(section.figure)
    columns = words + [
        (name, text)
        for name, text in _number_columns(title)
        if name not in DIFFERENCES or any(text(row) != MISSING for row in section.rows)
    ]
    return TextTable(
        [title for title, _ in columns],
        [[text(row) for _, text in columns] for row in section.rows],
        len(words),
    )


def row_titles(section: Section) -> list[str]:
    """Each row in a few words: `rotation · conv4 · k 20`."""
    titles = []
    for row in section.rows:
        words = [text(row) for _, text in _word_columns(section)]
        parts = [word for word in words if word != MISSING]
        for name in section.columns:
            value = _variable(name)(row)
            if value != MISSING:
                parts.append(f"{name} {value}")
        titles.append(" · ".join(parts))
    return titles


def section_title(section: Section) -> str:
    """The protocol, the image sets, the options in the file, and the network of all pretexts."""
    images = section.protocol_settings["images"]
    parts = [
        section.protocol,
        ", ".join(f"{role} {name}" for role, name in images.items()),
        f"images: {count_text(section.counts)}",
    ]
    stage = section.rows[0].runs[0].planned.stage
    for name in type(stage).model_fields:
        if name not in stage.model_fields_set or name in stage.input_fields():
            continue
        text = f"{name} {inline_yaml(getattr(stage, name))}"
        if text not in section.protocol:
            parts.append(text)
    networks = {row.network for row in section.rows}
    if len(networks) == 1:
        parts += [f"pretexts on {name}" for name in networks - {MISSING}]
    return " · ".join(parts)


def count_text(counts: dict[str, int]) -> str:
    """`9,000 train, 1,000 test, 90 train (1 %)`; empty splits are left out."""
    texts = []
    for name, count in counts.items():
        split, _, budget = name.partition(", ")
        if count:
            texts.append(f"{count:,} {split}" + (f" ({budget})" if budget else ""))
    return ", ".join(texts)


def _word_columns(section: Section) -> list[tuple[str, RowText]]:
    columns: list[tuple[str, RowText]] = [("pretext", lambda row: row.pretext)]
    if len({row.network for row in section.rows}) > 1:
        columns.append(("network", lambda row: row.network))
    columns.append(("target", lambda row: row.target))
    return columns


def _number_columns(figure: str) -> list[tuple[str, RowText]]:
    """The numbers of a row; `figure` is the title of the main figure."""
    return [
        (figure, row_figure),
        ("n", lambda row: str(row.figure.n)),
        (DIFFERENCES[0], lambda row: _difference(row.random)),
        (DIFFERENCES[1], lambda row: _difference(row.supervised)),
        ("time", lambda row: duration(row.seconds)),
        ("images", lambda row: MISSING if row.images is None else f"{row.images:,}"),
    ]


def _variable(name: str) -> RowText:
    def text(row: Row) -> str:
        return inline_yaml(row.variables[name]) if name in row.variables else MISSING

    return text


def _layers(row: Row) -> str:
    layers = {run.selected_layer for run in row.runs if run.selected_layer}
    return ", ".join(sorted(layers)) or MISSING


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return MISSING
    text = points(difference.mean)
    if len(difference.values) == 2:
        return f"{text} ({', '.join(map(points, difference.values))})"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{difference.low:.1f}, {difference.high:.1f}]".replace("-", "−")
