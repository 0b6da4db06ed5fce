"""The readers by their names: `reader:` of a card, or the key of `data:` in a pipeline file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.datasets.readers.base import Source
from transfer.datasets.readers.read_errors import error_text
from transfer.datasets.readers.shard_patterns import is_pattern
from transfer.errors import UsageError
from transfer.utils.paths import broken_link

if TYPE_CHECKING:
    from transfer.datasets.cards import Card


def make_source(
    reader: str,
    place: Path,
    labeled: bool = True,
    card: Card | None = None,
    skip: bool = False,
) -> Source:
    """Return the source of the images at `place`; its reader is imported here, not before.

    A set of a card that was written to one HDF5 file is read from that file. UsageError if the
    set of a card is missing, with the command that fetches it or the files that are expected.

    Args:
        reader: name of the reader.
        place: the folder, the file or the pattern of shards.
        labeled: False: the subfolders of a folder are not classes.
        card: describes the files, for the readers that need it.
        skip: True: files that cannot be read are left out, not refused.
    """
    if reader == "drawings":
        from transfer.datasets.readers.drawings import DrawingsSource

        return DrawingsSource()
    names_files = reader == "tar" and is_pattern(str(place))
    _check_rights(place)
    if card is not None and not names_files and not place.exists():
        problem = f"image set '{card.name}' is missing: {place} does not exist{broken_link(place)}"
        raise UsageError(card.absent(place, problem))
    if reader == "hdf5" or (card is not None and place.suffix.lower() in (".h5", ".hdf5")):
        from transfer.datasets.readers.hdf5 import Hdf5Source

        return Hdf5Source(place)
    if reader == "folder":
        from transfer.datasets.readers.folder import FolderSource

        return FolderSource(place, labeled, skip)
    if reader == "tar":
        from transfer.datasets.readers.webdataset import TarSource

        return TarSource(place, card, skip)
    assert card is not None, reader
    if reader == "files":
        from transfer.datasets.readers.file_lists import FilesSource

        return FilesSource(card, place, skip)
    if reader == "records":
        from transfer.datasets.readers.binary_records import RecordsSource

        return RecordsSource(card, place)
    from transfer.datasets.readers.pascal_voc import VocSource

    return VocSource(card, place, skip)


def _check_rights(place: Path) -> None:
    """Raise UsageError where a folder above the set must not be entered."""
    try:
        os.stat(place)
    except PermissionError as error:
        locked = next((top for top in reversed(place.parents) if not os.access(top, os.X_OK)), None)
        remedy = f"allow {locked or place.parent} to be entered, or name another place"
        raise UsageError(f"{place}: cannot be read ({error_text(error)}); {remedy}") from error
    except (OSError, ValueError):  # the reader reports it
        return
