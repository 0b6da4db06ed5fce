"""The readers by their names: what `reader:` of a card can say, and what `data:` in a pipeline file stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transfer.datasets.readers.base import Source
from transfer.errors import UsageError

if TYPE_CHECKING:
    from transfer.datasets.cards import Card


def make_source(reader: str, place: Path, labeled: bool = True, card: Card | None = None) -> Source:
    """The source of the images at `place`. Making it is cheap, and its reader is imported only then.

    `card` says what the files are, for the readers that know nothing without one. A set that has been written to one
    HDF5 file is read from there, whatever its card says of the files that it was made of. UsageError says what to put
    where, or the command that fetches it, where the set of a card is not there.
    """
    if reader == "drawings":
        from transfer.datasets.readers.drawings import DrawingsSource

        return DrawingsSource()
    is_pattern = reader == "tar" and any(sign in str(place) for sign in "{*?")
    if card is not None and not is_pattern and not place.exists():
        what = f"image set '{card.name}' is not there: there is no {place}"
        raise UsageError(card.absent(place, what))
    if reader == "hdf5" or (card is not None and place.suffix.lower() in (".h5", ".hdf5")):
        from transfer.datasets.readers.hdf5 import Hdf5Source

        return Hdf5Source(place)
    if reader == "folder":
        from transfer.datasets.readers.folder import FolderSource

        return FolderSource(place, labeled)
    if reader == "tar":
        from transfer.datasets.readers.webdataset import TarSource

        return TarSource(place, card)
    assert card is not None, reader
    if reader == "files":
        from transfer.datasets.readers.file_lists import FilesSource

        return FilesSource(card, place)
    if reader == "records":
        from transfer.datasets.readers.binary_records import RecordsSource

        return RecordsSource(card, place)
    from transfer.datasets.readers.pascal_voc import VocSource

    return VocSource(card, place)
