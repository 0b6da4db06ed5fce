"""Reader `drawings`: pictures rendered on this machine instead of read from files."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from transfer.datasets.drawings import render
from transfer.datasets.readers.base import Listing, Split, Survey
from transfer.utils.stamp_cache import StampCache

if TYPE_CHECKING:
    import numpy


class DrawingsSource:
    """See `render.py` for what is drawn."""

    def survey(self, memory: StampCache) -> Survey:
        """Known without drawing anything: the version stands for the pixels."""
        splits = {
            name: Split(count, True, f"drawings/{render.VERSION}/{name}")
            for name, count in render.SPLITS.items()
        }
        return Survey(splits, list(render.CLASSES), render.SIZE)

    def listing(self, split: str) -> Listing:
        labels = render.labels(split).tolist()
        ids = [f"{split}/{row}" for row in range(len(labels))]
        return Listing(ids, labels, partial(_one, split), render=partial(render.render, split))


def _one(split: str, row: int) -> numpy.ndarray:
    return render.render(split, [row])[0]
