"""The pipeline as an SVG graph: stages from left to right, each linked to its provenance."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from transfer.report.collect import FinishedStage, ReportData, ReportStage
from transfer.report.graph_layout import LINE_HEIGHT, PADDING, Box, arrange
from transfer.report.members import group_by_name
from transfer.utils.formatting import duration

NAMED_SETS = 2  # above that, a box says how many image sets it reads
RECT = '<rect{} x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}" rx="{}"/>'


def pipeline_svg(report: ReportData) -> Markup:
    """The graph in its natural size; the page lets it scroll."""
    stages = _stage_boxes(report)
    boxes = [box for layer in arrange(stages) for box in layer]
    width = max(box.x + box.width for box in boxes) + PADDING
    height = max(box.bottom for box in boxes) + PADDING
    parts = [_edge_svg(box, reader) for box in boxes for reader in box.readers]
    parts += [_box_svg(box) for box in boxes]
    names = ", ".join(box.lines[0] for box in stages)
    svg = Markup(
        '<svg class="graph" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" '
        'role="group" aria-label="{2} stages from left to right: {3}">{4}</svg>'
    )
    return svg.format(width, height, len(stages), names, Markup("").join(parts))


def progress_text(members: Sequence[ReportStage]) -> str:
    """How many members are made, when the last one was, and how long they took."""
    finished = [stage for stage in members if isinstance(stage, FinishedStage)]
    if not finished:
        return "damaged" if members[0].status.damaged else "not made yet"
    when = max(stage.finished_at for stage in finished)
    seconds = duration(sum(stage.manifest.seconds for stage in finished))
    count = f"{len(finished)} of {len(members)} made · " if len(members) > 1 else ""
    return f"{count}{when:%d %b %H:%M} · {seconds}"


def _stage_boxes(report: ReportData) -> list[Box]:
    """A box for each stage name, with its sources and readers."""
    groups = group_by_name(report.methods)
    boxes = {}
    for name, members in groups.items():
        is_finished = all(stage.is_finished for stage in members)
        boxes[name] = Box(_box_lines(name, members), members[0].anchor, is_finished)
    for name, members in groups.items():
        sources = dict.fromkeys(
            planned.name for stage in members for planned in stage.planned.inputs.values()
        )
        for source in sources:
            if source != name and source in boxes:
                boxes[name].sources.append(boxes[source])
                boxes[source].readers.append(boxes[name])
    return list(boxes.values())


def _box_lines(name: str, members: Sequence[ReportStage]) -> list[str]:
    """The name, the method, the progress and the image sets of a stage."""
    lines = [f"{name} ×{len(members)}" if len(members) > 1 else name]
    methods = dict.fromkeys(stage.planned.uses for stage in members)
    if members[0].planned.uses != name:
        lines.append(next(iter(methods)) if len(methods) == 1 else f"{len(methods)} methods")
    lines.append(progress_text(members))
    sets = dict.fromkeys(pack.name for stage in members for pack in stage.planned.images.values())
    if len(sets) > NAMED_SETS:
        lines.append(f"on {len(sets)} image sets")
    elif sets:
        lines.append(f"on {', '.join(sets)}")
    return lines


def _edge_svg(box: Box, reader: Box) -> Markup:
    """A curve from a box to its reader; a bend continues it through its layer."""
    start, end = box.x + box.width, reader.x
    path = f"M{box.x:.0f} {box.y:.0f}H{start:.0f}" if box.is_bend else f"M{start:.0f} {box.y:.0f}"
    middle = (start + end) / 2
    path += f"C{middle:.0f} {box.y:.0f} {middle:.0f} {reader.y:.0f} {end:.0f} {reader.y:.0f}"
    return Markup('<path d="{}"/>').format(path)


def _box_svg(box: Box) -> Markup:
    if box.is_bend:
        return Markup("")
    if box.inner:
        frame = _rect(box, Markup(' class="frame"'), 8)
        return frame + Markup("").join(map(_box_svg, box.inner))
    parts = [_rect(box, Markup(""), 6)]
    text = Markup('<text class="{}" x="{:.0f}" y="{:.0f}">{}</text>')
    for number, line in enumerate(box.lines):
        y = box.top + PADDING + 8 + LINE_HEIGHT * number
        parts.append(text.format("name" if number == 0 else "", box.x + PADDING, y, line))
    css_class = Markup("") if box.is_finished else Markup(' class="open"')
    link = Markup('<a href="#{}"{}>{}</a>')
    return link.format(box.anchor, css_class, Markup("").join(parts))


def _rect(box: Box, attributes: Markup, radius: int) -> Markup:
    return Markup(RECT).format(attributes, box.x, box.top, box.width, box.height, radius)
