"""Plots of linear probes, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from transfer.comparison.figures import selection_note
from transfer.comparison.table import Comparison, Row, Section
from transfer.comparison.text_table import row_titles
from transfer.numerics.confidence_intervals import t_interval
from transfer.report.collect import ReportData, ReportStage
from transfer.report.published_results import LAYERS, NOTE, published_results
from transfer.report.svg_plots import Interval, LinePlot, Series

MAX_CURVES = 40
MAX_OFFSET = 0.07  # between two lines, as a part of the distance between layers


@dataclass(frozen=True)
class ProbePlot:
    """The accuracy of networks over their layers."""

    protocol: str
    plot: Markup
    hidden: int  # rows that are only in the comparison
    sources: list[ReportStage]
    notes: list[str]


def probe_plots(report: ReportData, comparison: Comparison | None) -> list[ProbePlot]:
    """A plot for each table and set of layers, a line for each row."""
    plots = []
    for section in comparison.sections if comparison else []:
        groups: dict[tuple[str, ...], list[tuple[Row, str]]] = {}
        for row, title in zip(section.rows, row_titles(section), strict=True):
            layers = _probed_layers(row)
            if len(layers) > 1:
                groups.setdefault(layers, []).append((row, title))
        for layers, rows in groups.items():
            plots.append(_plot(report, section, layers, rows))
    return plots


def _plot(
    report: ReportData, section: Section, layers: tuple[str, ...], rows: list[tuple[Row, str]]
) -> ProbePlot:
    """The plot of rows with the same layers.

    Args:
        report: all stages.
        section: the table of the rows.
        layers: the layers, in the order in which they run.
        rows: the rows with their titles.
    """
    first = rows[0][0]
    shown = rows[:MAX_CURVES]
    offset = min(MAX_OFFSET, 0.5 / len(shown))  # keeps the intervals of a layer apart
    series = []
    for number, (row, title) in enumerate(shown):
        name = title if len(rows) > 1 else row.label
        series.append(_series(row, layers, name, offset * (number - (len(shown) - 1) / 2)))
    published = published_results(first.runs[0].planned, section.protocol)
    published = published if layers == LAYERS else {}
    series += [
        Series(f"{name} (published)", range(len(LAYERS)), values, quiet=True)
        for name, values in published.items()
    ]
    backbone = first.lineage.backbone
    networks = f"{len(rows)} networks, {backbone.name if backbone else ''}"
    title = f"accuracy by layer of {networks if len(rows) > 1 else first.label}"
    sources = [report.by_key[run.planned.key] for row, _ in shown for run in row.runs]
    notes = [NOTE] if published else []
    if note := selection_note(first.runs[0]):
        notes.insert(0, f"{note[0].upper()}{note[1:]}.")
    plot = LinePlot(title, "layer", "accuracy, %", names=layers).draw(series)
    return ProbePlot(section.protocol, plot, len(rows) - len(shown), sources, notes)


def _probed_layers(row: Row) -> tuple[str, ...]:
    """The layers with a figure of their own, where the protocol selects one of them."""
    backbone, run = row.lineage.backbone, row.runs[0]
    if backbone is None or not run.selected_layer:
        return ()
    return tuple(layer for layer in backbone.layer_names() if layer in run.figures)


def _series(row: Row, layers: tuple[str, ...], name: str, offset: float) -> Series:
    """The mean over seeds with Student's interval, which two do not have; of one, that over images.

    Args:
        row: the runs.
        layers: the layers.
        name: of the line.
        offset: to the right, as a part of the distance between layers.
    """
    estimates = [
        t_interval([run.figures[layer] for run in row.runs if layer in run.figures])
        for layer in layers
    ]
    intervals: list[Interval | None] = [estimate.interval for estimate in estimates]
    if len(row.runs) == 1:
        known = row.runs[0].intervals
        intervals = [
            (known[layer][0], known[layer][1]) if layer in known else None for layer in layers
        ]
    places = [place + offset for place in range(len(layers))]
    return Series(name, places, [estimate.mean for estimate in estimates], intervals)
