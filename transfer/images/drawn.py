"""Reader `drawings`: pictures rendered on this machine instead of read from files."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from transfer.images import drawings
from transfer.images.sources import Listing, Split, Survey, SurveyMemory

if TYPE_CHECKING:
    import numpy


class DrawingsSource:
    """See `drawings.py` for what is drawn."""

    def survey(self, memory: SurveyMemory) -> Survey:
        """Known without drawing anything: the version stands for the pixels."""
        splits = {
            name: Split(count, True, f"drawings/{drawings.VERSION}/{name}") for name, count in drawings.SPLITS.items()
        }
        return Survey(splits, list(drawings.CLASSES), drawings.SIZE)

    def listing(self, split: str) -> Listing:
        labels = drawings.labels(split).tolist()
        ids = [f"{split}/{row}" for row in range(len(labels))]
        return Listing(ids, labels, partial(_one, split), render=partial(drawings.render, split))


def _one(split: str, row: int) -> numpy.ndarray:
    return drawings.render(split, [row])[0]
