"""Reader `drawings`: images rendered on this machine instead of read from files."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from transfer.datasets.drawings import render
from transfer.datasets.readers.base import Listing, Split, Survey
from transfer.utils.stamp_cache import StampCache

if TYPE_CHECKING:
    import numpy


class DrawingsSource:
    """The drawings of `datasets/drawings/render.py`."""

    def survey(self, memory: StampCache) -> Survey:
        """Return splits and classes without drawing; the version determines the pixels."""
        splits = {
            name: Split(count, True, f"drawings/{render.VERSION}/{name}")
            for name, count in render.SPLITS.items()
        }
        return Survey(splits, list(render.CLASSES), render.SIZE)

    def listing(self, split: str) -> Listing:
        """Return the drawings of a split."""
        labels = render.labels(split).tolist()
        ids = [f"{split}/{row}" for row in range(len(labels))]
        read = partial(_render_row, split)
        return Listing(ids, labels, read, render=partial(render.render, split))


def _render_row(split: str, row: int) -> numpy.ndarray:
    return render.render(split, [row])[0]
