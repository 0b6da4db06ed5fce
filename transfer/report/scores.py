"""What was scored: the comparison as a table and a plot, probes layer by layer, and curves over epochs and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from transfer.artifacts import Scores
from transfer.comparison.compare import RANDOM, SUPERVISED, compare
from transfer.comparison.render import NOTHING, row_titles, section_title, table_cells
from transfer.comparison.table import Comparison, Row, Section
from transfer.errors import TransferError, UsageError
from transfer.models.backbone import Backbone
from transfer.numerics.confidence_intervals import t_interval
from transfer.report.collect import ReportData, ReportStage, apart, by_name, chosen, left_out
from transfer.report.published_results import LAYERS, NOTE, published
from transfer.report.svg_plots import Series, lines, scale

ROWS = 60  # of a comparison's plot
CURVES = 40


@dataclass(frozen=True)
class Dot:
    """A row of the comparison's plot, in percent of its width."""

    label: str
    told: str
    at: float
    low: float | None
    high: float | None
    anchor: str
    frame: bool  # random weights or labels: what the others stand between


def compared(report: ReportData) -> tuple[Comparison | None, str]:
    """What `transfer compare` finds, and why there is nothing where it finds none."""
    try:
        return compare([report.pipeline]), ""
    except UsageError:
        return None, ""  # nothing of the file evaluates anything
    except TransferError as error:
        return None, str(error)


def sections(found: Comparison | None) -> list[dict[str, Any]]:
    """Each table of the comparison: its head, titles, rows with links to where they come from, and its plot.

    One of a single row has nothing to compare: `alone` says so.
    """
    made = []
    for section in found.sections if found else []:
        titles, rows, words = table_cells(section)
        table = [
            {
                "cells": cells,
                "from": [(_seed(run, row), f"made-{run.planned.key}") for run in row.runs],
            }
            for cells, row in zip(rows, section.rows, strict=True)
        ]
        told = row_titles(section)
        dots = _dots(section, told) if len(section.rows) > 1 else None
        made.append(
            {
                "protocol": section.protocol,
                "figure": section.figure,
                "head": section_title(section),
                "titles": titles,
                "words": words,
                "rows": table,
                "notes": section.notes,
                "dots": dots,
                "best": _sentence(section, told),
                "alone": len(rows) == 1,
                "on": _tested(section),
                "over_time": _over_time(section),
            }
        )
    return made


def _tested(section: Section) -> tuple[str, str]:
    """The image set that is scored, and how many of it."""
    sets = [
        told.partition(" (")[0]
        for role, told in section.protocol_settings["images"].items()
        if role != "train"
    ]
    count = Scores.tested(section.counts)
    return ", ".join(sets), NOTHING if count is None else f"{count:,}"


def _seed(run: Any, row: Row) -> str:
    return f"seed {run.lineage.seed}" if len(row.runs) > 1 else run.planned.name


def _given(row: Row, uses: str) -> bool:
    """Whether a row is what others are compared with: of random weights, or of labels."""
    return row.lineage.is_pretext(uses) or row.lineage.distilled_from(uses)


def _sentence(section: Section, told: list[str]) -> dict[str, str]:
    """The best row in a few words: of those that learned without labels, where there are some."""
    free = [row for row in section.rows if not _given(row, SUPERVISED) and not _given(row, RANDOM)]
    row = (free or section.rows)[0]
    value = f"{row.figure.mean:.1f} %"
    if row.figure.deviation is not None:
        spread = f"± {row.figure.deviation:.1f} over {row.figure.n} seeds"
    else:
        spread = f"[{row.figure.low:.1f}, {row.figure.high:.1f}]" if row.has_interval else ""
    others = [
        f"{difference.mean:+.1f} to {name}".replace("-", "−")
        for name, difference in (("random weights", row.random), ("supervised", row.supervised))
        if difference
    ]
    which = f"best of {len(section.rows)}: " if len(section.rows) > 1 else ""
    if 0 < len(free) < len(section.rows) > 1:
        which = f"best of {len(free)} that learned without labels: " if len(free) > 1 else ""
    what = which + told[section.rows.index(row)]
    return {
        "value": value,
        "spread": spread,
        "what": what,
        "others": ", ".join(others),
        "anchor": f"made-{row.runs[0].planned.key}",
        "protocol": section.protocol,
        "figure": section.figure,
    }


def _dots(section: Section, told: list[str]) -> dict[str, Any]:
    rows = section.rows[:ROWS]
    low, high, ticks = scale(
        [row.figure.low if row.has_interval else row.figure.mean for row in rows],
        [row.figure.high if row.has_interval else row.figure.mean for row in rows],
    )

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    dots = [
        Dot(
            label,
            f"{row.figure.mean:.1f}"
            + (f" ± {row.figure.deviation:.1f}" if row.figure.deviation else ""),
            place(row.figure.mean),
            place(row.figure.low) if row.has_interval else None,
            place(row.figure.high) if row.has_interval else None,
            f"made-{row.runs[0].planned.key}",
            _given(row, RANDOM) or _given(row, SUPERVISED),
        )
        for label, row in zip(told[:ROWS], rows, strict=True)
    ]
    return {
        "rows": dots,
        "ticks": [(f"{tick:g}", place(tick)) for tick in ticks],
        "more": len(section.rows) - len(rows),
    }


def _over_time(section: Section) -> Markup:
    """Each row's figure over the minutes that its network was trained: a color for each way to learn."""
    groups: dict[str, list[Row]] = {}
    for row in section.timed:
        groups.setdefault(
            row.lineage.evaluated_stage.uses.partition("/")[2] or row.lineage.evaluated_stage.uses,
            [],
        ).append(row)
    if sum(map(len, groups.values())) < 3:
        return Markup("")
    series = []
    for name, rows in groups.items():
        rows = sorted(rows, key=lambda row: row.training)
        spans = [(row.figure.low, row.figure.high) if row.has_interval else None for row in rows]
        series.append(
            Series(
                name,
                [row.training / 60 for row in rows],
                [row.figure.mean for row in rows],
                spans,
                kind=name,
            )
        )
    random = [
        row.figure.mean for row in section.rows if _given(row, RANDOM)
    ]  # of several networks no one line is true
    level = ("random weights", random[0]) if len(random) == 1 else None
    return lines(
        "What a minute of training buys",
        series,
        "minutes that the scored network was trained",
        f"{section.figure}, %",
        level=level,
        log=True,
        dots=True,
    )


def probes(report: ReportData, found: Comparison | None) -> list[dict[str, Any]]:
    """Accuracy over the layers of a network, a line a row of the comparison; published curves where they belong."""
    made = []
    for section in found.sections if found else []:
        by_network: dict[tuple[str, ...], list[Row]] = {}
        names = {id(row): told for row, told in zip(section.rows, row_titles(section), strict=True)}
        for row in section.rows:
            backbone = row.lineage.backbone
            layers = [*backbone.layer_names()] if isinstance(backbone, Backbone) else []
            figures = row.runs[0].card.figures
            probed = tuple(layer for layer in layers if layer in figures)
            if row.runs[0].card.selected.get("layer") and len(probed) > 1:
                by_network.setdefault(probed, []).append(row)
        for layers, rows in by_network.items():
            shown = rows[:CURVES]
            told = [names[id(row)] for row in shown]
            beside = min(
                0.07, 0.5 / len(told)
            )  # of one layer's place to the next, so that intervals stand apart
            series = [
                _probe(
                    row,
                    layers,
                    label if len(rows) > 1 else row.label,
                    beside * (number - (len(told) - 1) / 2),
                )
                for number, (row, label) in enumerate(zip(shown, told, strict=True))
            ]
            known = published(rows[0].runs[0].planned, section.protocol)
            series += (
                [
                    Series(f"{name} (published)", range(len(LAYERS)), values, quiet=True)
                    for name, values in known.items()
                ]
                if layers == LAYERS
                else []
            )
            several = f"{len(rows)} networks, {rows[0].lineage.backbone.name}"
            title = f"accuracy by layer of {several if len(rows) > 1 else rows[0].label}"
            plot = lines(title, series, "layer", "accuracy, %", names=layers)
            made.append(
                {
                    "protocol": section.protocol,
                    "plot": plot,
                    "more": len(rows) - CURVES,
                    "sources": [
                        report.by_key[run.planned.key] for row in shown for run in row.runs
                    ],
                    "note": NOTE if known and layers == LAYERS else "",
                }
            )
    return made


def _probe(row: Row, layers: tuple[str, ...], name: str, beside: float) -> Series:
    """The mean over seeds with Student's interval; of one seed the value with that over its test images."""
    values = [
        [run.card.figures[layer] for run in row.runs if layer in run.card.figures]
        for layer in layers
    ]
    estimates = [t_interval(one) for one in values]
    if len(row.runs) > 1:
        spans = [(one.low, one.high) for one in estimates]
    else:
        intervals = row.runs[0].card.intervals
        spans = [tuple(intervals[layer]) if layer in intervals else None for layer in layers]
    return Series(
        name,
        [place + beside for place in range(len(layers))],
        [one.mean for one in estimates],
        spans,
    )


def curves(report: ReportData) -> list[dict[str, Any]]:
    """For each stage that taught a network some labels: accuracy over epochs, and over the number of labels."""
    made = []
    for name, members in by_name(report.of(Scores)).items():
        some, more = chosen(members)
        told = apart([one.planned for one in some])
        plots = []
        for one, label in zip(some, told, strict=True):
            with report.reading(one):
                plots += _taught(one, label if len(some) > 1 else name)
        if plots:
            made.append(
                {"name": name, "members": some, "plots": plots, "left_out": left_out(report, more)}
            )
    return made


def _taught(one: ReportStage, name: str) -> list[Markup]:
    scores: Scores = one.checked("scores.json", "scores.h5")
    epochs, plots = [], []
    for figure in scores.figures:
        curve = _array(scores, f"curve.{figure}")
        if curve is not None and curve.ndim == 2 and curve.size:
            epochs.append(Series(figure, range(curve.shape[1]), curve.mean(0).tolist()))
    if epochs:
        plots.append(
            lines(f"test accuracy of {name} while it learns", epochs, "epoch", "test accuracy, %")
        )
    ways: dict[str, list[tuple[int, float, Any]]] = {}
    for figure, value in scores.figures.items():
        way, _, amount = figure.rpartition(", ")
        count = scores.card.counts.get(f"train, {amount}")
        if way and count:
            ways.setdefault(way, []).append(
                (count, value, scores.card.intervals.get(figure))
            )
    if any(len(points) > 1 for points in ways.values()):
        series = []
        for way, points in ways.items():
            counts, values, spans = zip(*sorted(points, key=lambda point: point[0]), strict=True)
            series.append(
                Series(way, counts, values, [tuple(span) if span else None for span in spans])
            )
        plots.append(
            lines(
                f"test accuracy of {name} by labels", series, "labels", "test accuracy, %", log=True
            )
        )
    return plots


def _array(scores: Scores, name: str) -> Any:
    from transfer.storage.hdf5_tables import TableReader

    table = TableReader(scores.folder / "scores.h5")
    return table.read(name) if name in table else None
