"""The pipeline as a picture: stages from left to right in layers, so that no line goes back, drawn as SVG."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from transfer.report.collect import ReportData, ReportStage, by_name
from transfer.utils.formatting import duration

LETTER, BOLD = 6.9, 8.6  # px that a letter takes at most, at the sizes in the style sheet
LINE, PAD = 16, 10
ACROSS, DOWN = 56, 16  # px between layers, and between the stages of one
ALIKE, ROWS, INNER = (
    4,
    6,
    8,
)  # so many stages that read and are read alike stand in one frame; its rows; px in it
SWEEPS = 12


@dataclass(eq=False)
class Box:
    """A stage with all its members, a frame of `inner` ones, or a bend of a line that goes past a layer."""

    lines: list[str] = field(default_factory=list)
    anchor: str = ""
    done: bool = True
    layer: int = 0
    before: list[Box] = field(default_factory=list)
    after: list[Box] = field(default_factory=list)
    x: float = 0
    y: float = 0  # of its middle
    width: float = 0
    inner: list[Box] = field(default_factory=list)

    @property
    def bend(self) -> bool:
        return not self.lines and not self.inner

    @property
    def columns(self) -> int:
        return -(-len(self.inner) // ROWS)

    @property
    def rows(self) -> int:
        return -(-len(self.inner) // self.columns)

    @property
    def height(self) -> float:
        if self.inner:
            return self.rows * (max(box.height for box in self.inner) + INNER) + INNER
        return 2 * PAD + LINE * len(self.lines) - 4 if self.lines else 4

    def measure(self) -> None:
        """Its width follows from what is written in it."""
        for box in self.inner:
            box.measure()
        widest = max((box.width for box in self.inner), default=0)
        words = max(
            (_width(line, number == 0) for number, line in enumerate(self.lines)), default=0
        )
        self.width = (
            self.columns * (widest + INNER) + INNER
            if self.inner
            else words + 2 * PAD
            if self.lines
            else 0
        )

    def settle(self) -> None:
        """The places of the boxes in a frame, column by column."""
        wide = (self.width - INNER) / max(1, self.columns) - INNER
        high = max((box.height for box in self.inner), default=0)
        for number, box in enumerate(self.inner):
            column, row = divmod(number, self.rows)
            box.width = wide
            box.x = self.x + INNER + column * (wide + INNER)
            box.y = self.y - self.height / 2 + INNER + row * (high + INNER) + box.height / 2


def drawing(report: ReportData) -> Markup:
    """The whole pipeline as an SVG of its natural size; the page lets it scroll inside a box of its own."""
    stages = _boxes(report)
    layers = _layers(_framed(stages))
    _order(layers)
    x = PAD
    for layer in layers:
        for box in layer:
            box.x = x
            box.measure()
        widest = max(box.width for box in layer)
        plain = max((box.width for box in layer if box.lines), default=0)
        for box in layer:
            box.width = widest if box.bend else max(box.width, plain)
        x += widest + ACROSS
    _heights(layers)
    for layer in layers:
        for box in layer:
            box.settle()
    bottom = max(box.y + box.height / 2 for layer in layers for box in layer) + PAD
    parts = [_edge(box, other) for layer in layers for box in layer for other in box.after]
    parts += [_drawn(box) for layer in layers for box in layer]
    names = ", ".join(box.lines[0] for box in stages)
    head = Markup(
        '<svg class="graph" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" role="group" '
        'aria-label="{2} stages from left to right: {3}">'
    )
    return (
        head.format(x - ACROSS + PAD, bottom, len(stages), names)
        + Markup("").join(parts)
        + Markup("</svg>")
    )


def status_class(members: Sequence[ReportStage]) -> str:
    """What was made, when, and how long it took, in a few words."""
    made = [one for one in members if one.made]
    if not made:
        return "damaged" if members[0].state.damaged else "not made yet"
    when = max(one.when for one in made)
    took = duration(sum(one.manifest.seconds for one in made))
    count = f"{len(made)} of {len(members)} made · " if len(members) > 1 else ""
    return f"{count}{when:%d %b %H:%M} · {took}"


def _boxes(report: ReportData) -> list[Box]:
    groups = by_name(report.methods)
    boxes = {}
    for name, members in groups.items():
        first = members[0].planned
        sets = dict.fromkeys(pack.name for one in members for pack in one.planned.images.values())
        uses = dict.fromkeys(one.planned.uses for one in members)
        lines = [name + (f" ×{len(members)}" if len(members) > 1 else "")]
        lines += (
            [next(iter(uses)) if len(uses) == 1 else f"{len(uses)} methods"]
            if first.uses != name
            else []
        )
        lines += [status_class(members)]
        lines += (
            [f"on {', '.join(sets)}"]
            if len(sets) in (1, 2)
            else [f"on {len(sets)} image sets"]
            if sets
            else []
        )
        boxes[name] = Box(lines, members[0].anchor, all(one.made for one in members))
    for name, members in groups.items():
        reads = dict.fromkeys(
            other.name
            for one in members
            for other in one.planned.inputs.values()
            if not other.is_pack
        )
        for other in reads:
            if other != name:
                boxes[name].before.append(boxes[other])
                boxes[other].after.append(boxes[name])
    return list(boxes.values())


def _framed(boxes: Sequence[Box]) -> list[Box]:
    """Stages that read the same and are read by the same, such as many scores of one network, share a frame."""
    alike: dict[tuple[frozenset[int], frozenset[int]], list[Box]] = {}
    for box in boxes:
        alike.setdefault(
            (frozenset(map(id, box.before)), frozenset(map(id, box.after))), []
        ).append(box)
    framed = {}
    for some in alike.values():
        if len(some) >= ALIKE:
            framed |= dict.fromkeys(
                map(id, some), Box(inner=some, before=some[0].before, after=some[0].after)
            )
    found = list({id(one): one for one in (framed.get(id(box), box) for box in boxes)}.values())
    for box in found:
        box.before = list(
            {id(one): one for one in (framed.get(id(one), one) for one in box.before)}.values()
        )
        box.after = list(
            {id(one): one for one in (framed.get(id(one), one) for one in box.after)}.values()
        )
    return found


def _layers(boxes: Sequence[Box]) -> list[list[Box]]:
    """Each box right of all that it reads; lines that skip a layer get a bend. `boxes` are in the plan's order."""
    for box in boxes:
        box.layer = 1 + max((other.layer for other in box.before), default=-1)
    for box in reversed(boxes):  # what reads nothing stands right before what reads it
        if not box.before and box.after:
            box.layer = max(0, min(other.layer for other in box.after) - 1)
    layers: list[list[Box]] = [[] for _ in range(1 + max(box.layer for box in boxes))]
    for box in boxes:
        layers[box.layer].append(box)
    for box in boxes:
        for place, other in enumerate(box.after):
            last = box
            for layer in range(box.layer + 1, other.layer):
                bend = Box(layer=layer, before=[last])
                if last is box:
                    box.after[place] = bend
                else:
                    last.after = [bend]
                layers[layer].append(bend)
                last = bend
            if last is not box:
                last.after = [other]
                other.before[other.before.index(box)] = last
    return layers


def _order(layers: Sequence[list[Box]]) -> None:
    """Each layer sorted by the mean place of its neighbors, to and fro: few lines cross (Sugiyama et al. 1981)."""
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for number in range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1):
            place = {
                id(box): i for i, box in enumerate(layers[number - 1 if forward else number + 1])
            }

            def mean(box: Box, place: dict[int, int] = place, forward: bool = forward) -> float:
                near = [
                    place[id(one)]
                    for one in (box.before if forward else box.after)
                    if id(one) in place
                ]
                return sum(near) / len(near) if near else 0.0

            layers[number].sort(key=mean)


def _heights(layers: Sequence[list[Box]]) -> None:
    """Where each box stands in its layer: near its neighbors, in order, none on another."""
    for layer in layers:
        y = 0.0
        for box in layer:
            box.y = y + box.height / 2
            y += box.height + DOWN
    for _ in range(
        SWEEPS
    ):  # only downwards: what branches begins at the top, where a reader begins
        for layer in layers[1:]:
            for box in layer:
                box.y = sum(one.y for one in box.before) / len(box.before) if box.before else box.y
            for upper, lower in itertools.pairwise(layer):
                lower.y = max(lower.y, upper.y + (upper.height + lower.height) / 2 + DOWN)
    top = min(box.y - box.height / 2 for layer in layers for box in layer)
    for layer in layers:
        for box in layer:
            box.y += PAD - top


def _width(text: str, bold: bool) -> float:
    """Px that a line takes at most; East Asian letters are twice as wide."""
    letters = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
    return letters * (BOLD if bold else LETTER)


def _edge(box: Box, other: Box) -> Markup:
    start, end = box.x + box.width, other.x
    through = f"M{box.x:.0f} {box.y:.0f}H{start:.0f}" if box.bend else f"M{start:.0f} {box.y:.0f}"
    bend = (end - start) / 2
    curve = (
        f"C{start + bend:.0f} {box.y:.0f} {end - bend:.0f} {other.y:.0f} {end:.0f} {other.y:.0f}"
    )
    return Markup('<path d="{}"/>').format(through + curve)


def _drawn(box: Box) -> Markup:
    if box.bend:
        return Markup("")
    top = box.y - box.height / 2
    if box.inner:
        frame = Markup(
            '<rect class="frame" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}" rx="8"/>'
        )
        return frame.format(box.x, top, box.width, box.height) + Markup("").join(
            map(_drawn, box.inner)
        )
    out = [
        Markup('<rect x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}" rx="6"/>').format(
            box.x, top, box.width, box.height
        )
    ]
    for number, line in enumerate(box.lines):
        out.append(
            Markup('<text class="{}" x="{:.0f}" y="{:.0f}">{}</text>').format(
                "name" if number == 0 else "", box.x + PAD, top + PAD + 8 + LINE * number, line
            )
        )
    body = Markup("").join(out)
    return Markup('<a href="#{}"{}>{}</a>').format(
        box.anchor, Markup("") if box.done else Markup(' class="open"'), body
    )
