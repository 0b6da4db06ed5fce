"""Where a set comes from: which reader, over which files. Opening it is cheap; the readers are imported when asked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from transfer.datasets.cards import Card
from transfer.datasets.reader_factory import make_source
from transfer.datasets.readers.base import Source


@dataclass(frozen=True)
class Origin:
    """A reader and the place of its files; `card` for the readers that a card instructs."""

    reader: str
    location: str
    labeled: bool = True
    card: Card | None = None

    @property
    def files(self) -> tuple[str, str]:
        """The reader and where its files really are; of shards, their folder, whichever of them are named."""
        place = Path(os.path.realpath(self.location))
        if self.reader == "tar" and not place.is_dir():
            place = place.parent
        return self.reader, str(place)

    def open(self) -> Source:
        """The source that answers what is there; UsageError where nothing is."""
        return make_source(self.reader, Path(self.location), self.labeled, self.card)
