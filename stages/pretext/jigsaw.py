"""Jigsaw puzzles (Noroozi & Favaro, ECCV 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.pretext._jigsaw_base import TILES, JigsawBase
from stages.pretext._permutations import distant_permutations
from transfer.stage.options import option

if TYPE_CHECKING:
    import numpy


class Jigsaw(JigsawBase):
    """In which of 100 permutations are the nine tiles?

    Loss: cross-entropy over the permutations. They are far apart, so that a few tiles never decide
    between two of them. Shortcuts that are closed: tiles never touch (jitter), the edges of the
    color channels do not line up (shift), color is a weak sign (`grayscale`), and so are brightness
    and contrast (each tile is normalized by its own mean and standard deviation).
    Constants: tile, cell, head and recipe are the released code's (350,000 steps are 70 epochs of
    ImageNet); the shift is that of Jigsaw++, and the release has none and a jitter of 21
    (`shift: 0`, `jitter: 21`). The share of gray images is ours: the release has none. The paper
    has up to 1,000 permutations, VISSL up to 10,000.
    """

    paper = "Noroozi & Favaro, ECCV 2016"

    permutations: int = option(
        100, "number of permutations, the classes of the task", ge=2, le=10_000
    )
    grayscale: float = option(0.3, "share of images that are made gray", ge=0, le=1)
    color_projection: float = option(
        0.0, "share of the other images that lose one direction of color", ge=0, le=1
    )

    def table(self) -> numpy.ndarray:
        return distant_permutations(self.permutations, TILES)
