"""The origin of a set: a reader and the place of its files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from transfer.datasets.cards import Card
from transfer.datasets.reader_factory import make_source
from transfer.datasets.readers.base import Source


@dataclass(frozen=True)
class Origin:
    """A reader and the place of its files; making one touches no file and imports no reader."""

    reader: str
    location: str
    labeled: bool = True
    card: Card | None = None  # for the readers that a card instructs
    skip: bool = False  # whether files that cannot be read are left out, not refused

    @property
    def files(self) -> tuple[str, str]:
        """The reader and the real path of its files; for shards, that of their folder."""
        place = Path(os.path.realpath(self.location))
        if self.reader == "tar" and not place.is_dir():
            place = place.parent
        return self.reader, str(place)

    def open(self) -> Source:
        """Return the source of the images; UsageError if the set of a card is missing."""
        return make_source(self.reader, Path(self.location), self.labeled, self.card, self.skip)
