"""The stages of the tiny pipeline, and lines of a command's output."""

from __future__ import annotations

from pathlib import Path

STAGES = ["pretext", "features", "prepared", "clusters", "labels", "target", "linear", "knn"]
PACKS = ["drawings/unlabeled", "drawings/train", "drawings/test"]


def lines_of(text: str) -> dict[str, str]:
    """The lines about a stage, by its name."""
    lines = [line for line in text.splitlines() if line.startswith(" ")]
    return {line.strip(" *").split()[0]: line for line in lines}


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
