"""Draws the rooms of the code as their imports are: `python -m tests.architecture` writes the SVG.

Rooms are on floors; an arrow leads from a room to one that it imports. An arrow is left out where a
way over other rooms leads there too (transitive reduction), so that the drawing can be read.
"""

from __future__ import annotations

from pathlib import Path

from tests.import_graph import ROOT, graph
from tests.test_imports import FLOORS

TARGET = ROOT / "docs" / "architecture.svg"
BOX, GAP, ROW, MARGIN = (118, 30), 26, 78, 20  # px
STYLE = (
    "text{font:13px system-ui,sans-serif;text-anchor:middle;fill:#1b2a3a}"
    "rect{fill:#eef4fb;stroke:#3b6ea5;rx:5}path{fill:none;stroke:#8aa4c0;stroke-width:1.2}"
    ".stages{fill:#fdf3e1;stroke:#b07a1f}"
)


def rows() -> list[list[str]]:
    """Rooms from the top floor to the bottom; `stages` is beside what imports nothing of it."""
    floors = [list(rooms) for rooms in FLOORS if rooms not in (("__main__",),)]
    floors = [[room for room in rooms if room not in ("__init__", "version")] for rooms in floors]
    next(rooms for rooms in floors if "execution" in rooms).append("stages")
    return floors[::-1]


def room_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "stages":
        return "stages"
    return parts[1] if len(parts) > 1 else "__init__"


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports), without those that follow from others."""
    drawn = {room for rooms in rows() for room in rooms}
    below: dict[str, set[str]] = {room: set() for room in drawn}
    for module, targets in graph().items():
        for target in targets:
            source, other = room_of(module), room_of(target)
            if source != other and source in drawn and other in drawn:
                below[source].add(other)

    def reach(room: str) -> set[str]:
        return below[room].union(*(reach(other) for other in below[room]))

    return {
        (room, other)
        for room in drawn
        for other in below[room]
        if not any(other in reach(between) for between in below[room] - {other})
    }


def svg() -> str:
    """The drawing."""
    width = 2 * MARGIN + max(len(rooms) for rooms in rows()) * (BOX[0] + GAP) - GAP
    height = 2 * MARGIN + (len(rows()) - 1) * ROW + BOX[1]
    places: dict[str, tuple[float, float]] = {}
    for floor, rooms in enumerate(rows()):
        left = (width - len(rooms) * (BOX[0] + GAP) + GAP) / 2
        for index, room in enumerate(rooms):
            places[room] = (left + index * (BOX[0] + GAP) + BOX[0] / 2, MARGIN + floor * ROW)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' aria-label="Rooms of the code and their imports">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" style="fill:#8aa4c0"/>'
        "</marker></defs>",
    ]
    for source, target in sorted(arrows()):
        (x, y), (to_x, to_y) = places[source], places[target]
        start, end = y + BOX[1], to_y - 1
        bend = (end - start) / 2
        curve = f"M{x:g} {start:g}C{x:g} {start + bend:g} {to_x:g} {end - bend:g} {to_x:g} {end:g}"
        lines.append(f'<path d="{curve}" marker-end="url(#tip)"/>')
    for room, (x, y) in places.items():
        kind = ' class="stages"' if room == "stages" else ""
        corner = f'x="{x - BOX[0] / 2:g}" y="{y:g}" width="{BOX[0]}" height="{BOX[1]}"'
        lines.append(f'<rect {corner}{kind}/><text x="{x:g}" y="{y + 20:g}">{room}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def write(target: Path = TARGET) -> None:
    target.write_text(svg(), encoding="utf-8")


if __name__ == "__main__":
    write()
