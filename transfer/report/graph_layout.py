"""The layout of a pipeline's graph in layers from left to right, after Sugiyama et al. (1981)."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

LETTER, BOLD_LETTER = 6.9, 8.6  # px of a letter, at most, at the sizes in the style sheet
LINE_HEIGHT, PADDING = 16, 10
LAYER_GAP, BOX_GAP = 56, 16  # px between layers, and between the boxes of one
LEAST_FRAMED, FRAME_ROWS, FRAME_GAP = 4, 6, 8  # boxes that share a frame; its rows; px between
SWEEPS = 12


@dataclass(eq=False)
class Box:
    """A stage with its members, a frame around boxes, or the bend of an edge that skips a layer.

    Args:
        lines: the text of a stage; empty for a frame or a bend.
        anchor: the id to which a stage links.
        is_finished: whether all members of a stage are made.
        layer: the number of its layer.
        sources: the boxes that it reads.
        readers: the boxes that read it.
        x: of its left side.
        y: of its middle.
        width: in px.
        inner: the boxes in a frame.
    """

    lines: list[str] = field(default_factory=list)
    anchor: str = ""
    is_finished: bool = True
    layer: int = 0
    sources: list[Box] = field(default_factory=list)
    readers: list[Box] = field(default_factory=list)
    x: float = 0
    y: float = 0
    width: float = 0
    inner: list[Box] = field(default_factory=list)

    @property
    def is_bend(self) -> bool:
        """Whether it only leads an edge through a layer."""
        return not self.lines and not self.inner

    @property
    def columns(self) -> int:
        """Of the boxes in a frame."""
        return -(-len(self.inner) // FRAME_ROWS)

    @property
    def rows(self) -> int:
        """Of the boxes in a frame."""
        return -(-len(self.inner) // self.columns)

    @property
    def height(self) -> float:
        """In px, for its text or its inner boxes."""
        if self.inner:
            return self.rows * (max(box.height for box in self.inner) + FRAME_GAP) + FRAME_GAP
        return 2 * PADDING + LINE_HEIGHT * len(self.lines) - 4 if self.lines else 4

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    def measure(self) -> None:
        """Set the width that its text, or its inner boxes, need."""
        for box in self.inner:
            box.measure()
        if self.inner:
            widest = max(box.width for box in self.inner)
            self.width = self.columns * (widest + FRAME_GAP) + FRAME_GAP
        elif self.lines:
            widths = [_text_width(line, number == 0) for number, line in enumerate(self.lines)]
            self.width = max(widths) + 2 * PADDING
        else:
            self.width = 0

    def place_inner(self) -> None:
        """Place the boxes of a frame, column by column."""
        if not self.inner:
            return
        width = (self.width - FRAME_GAP) / self.columns - FRAME_GAP
        height = max(box.height for box in self.inner)
        for number, box in enumerate(self.inner):
            column, row = divmod(number, self.rows)
            box.width = width
            box.x = self.x + FRAME_GAP + column * (width + FRAME_GAP)
            box.y = self.top + FRAME_GAP + row * (height + FRAME_GAP) + box.height / 2


def arrange(boxes: Sequence[Box]) -> list[list[Box]]:
    """Place boxes, given in topological order, and return the layers with bends and frames."""
    layers = _layers(_framed(boxes))
    _reduce_crossings(layers)
    x = float(PADDING)
    for layer in layers:
        for box in layer:
            box.x = x
            box.measure()
        widest = max(box.width for box in layer)
        widest_stage = max((box.width for box in layer if box.lines), default=0)
        for box in layer:
            box.width = widest if box.is_bend else max(box.width, widest_stage)
        x += widest + LAYER_GAP
    _place_vertically(layers)
    for layer in layers:
        for box in layer:
            box.place_inner()
    return layers


def _framed(boxes: Sequence[Box]) -> list[Box]:
    """Put stages with the same sources and readers, such as the scores of a network, in a frame."""
    groups: dict[tuple[frozenset[int], frozenset[int]], list[Box]] = {}
    for box in boxes:
        neighbors = frozenset(map(id, box.sources)), frozenset(map(id, box.readers))
        groups.setdefault(neighbors, []).append(box)
    frames: dict[int, Box] = {}
    for group in groups.values():
        if len(group) >= LEAST_FRAMED:
            frame = Box(inner=group, sources=group[0].sources, readers=group[0].readers)
            frames.update(dict.fromkeys(map(id, group), frame))

    def outermost(members: Iterable[Box]) -> list[Box]:
        return list(dict.fromkeys(frames.get(id(box), box) for box in members))

    framed = outermost(boxes)
    for box in framed:
        box.sources, box.readers = outermost(box.sources), outermost(box.readers)
    return framed


def _layers(boxes: Sequence[Box]) -> list[list[Box]]:
    """Each box to the right of its sources; an edge that skips a layer gets a bend there."""
    for box in boxes:
        box.layer = 1 + max((source.layer for source in box.sources), default=-1)
    for box in reversed(boxes):  # a box without sources is next to its first reader
        if not box.sources and box.readers:
            box.layer = max(0, min(reader.layer for reader in box.readers) - 1)
    layers: list[list[Box]] = [[] for _ in range(1 + max(box.layer for box in boxes))]
    for box in boxes:
        layers[box.layer].append(box)
    for box in boxes:
        for place, reader in enumerate(box.readers):
            _bend_edge(box, place, reader, layers)
    return layers


def _bend_edge(box: Box, place: int, reader: Box, layers: list[list[Box]]) -> None:
    """Replace the edge to a reader in a farther layer by a chain of bends.

    Args:
        box: where the edge starts.
        place: of the reader among the readers of the box.
        reader: where the edge ends.
        layers: all layers; the bends are added to them.
    """
    last = box
    for layer in range(box.layer + 1, reader.layer):
        bend = Box(layer=layer, sources=[last])
        if last is box:
            box.readers[place] = bend
        else:
            last.readers = [bend]
        layers[layer].append(bend)
        last = bend
    if last is not box:
        last.readers = [reader]
        reader.sources[reader.sources.index(box)] = last


def _reduce_crossings(layers: Sequence[list[Box]]) -> None:
    """Sort each layer by the mean place of its neighbors, forward and backward in turn."""
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        numbers = range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1)
        for number in numbers:
            neighbors = layers[number - 1 if forward else number + 1]
            places = {id(box): place for place, box in enumerate(neighbors)}
            means = {id(box): _mean_place(box, places, forward) for box in layers[number]}
            layers[number].sort(key=lambda box, means=means: means[id(box)])


def _mean_place(box: Box, places: dict[int, int], forward: bool) -> float:
    """The mean place of the sources of a box, or of its readers if not `forward`."""
    neighbors = box.sources if forward else box.readers
    near = [places[id(neighbor)] for neighbor in neighbors if id(neighbor) in places]
    return sum(near) / len(near) if near else 0.0


def _place_vertically(layers: Sequence[list[Box]]) -> None:
    """Place boxes near their sources, in order, without overlap."""
    for layer in layers:
        y = 0.0
        for box in layer:
            box.y = y + box.height / 2
            y += box.height + BOX_GAP
    for _ in range(SWEEPS):  # boxes only move down, so that a branch starts at the top
        for layer in layers[1:]:
            for box in layer:
                if box.sources:
                    box.y = sum(source.y for source in box.sources) / len(box.sources)
            for upper, lower in itertools.pairwise(layer):
                lower.y = max(lower.y, upper.y + (upper.height + lower.height) / 2 + BOX_GAP)
    top = min(box.top for layer in layers for box in layer)
    for layer in layers:
        for box in layer:
            box.y += PADDING - top


def _text_width(text: str, bold: bool) -> float:
    """Px of a line, at most; East Asian letters are twice as wide."""
    letters = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
    return letters * (BOLD_LETTER if bold else LETTER)
