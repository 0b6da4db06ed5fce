"""Images: a packed split."""

from __future__ import annotations

import io
import os
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from transfer.artifacts.base import Artifact
from transfer.errors import CorruptArtifact
from transfer.storage.hdf5_tables import TableReader
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy


class Images(Artifact):
    """A packed split: memory-mapped pixels or JPEG bytes; `index.h5` with ids and labels.

    Raw: `images.npy` (N, S, S, 3) uint8. JPEG: `images.bin` and `offsets.npy` (N + 1,), of S x S px each.
    `transfer/datasets/packed/batch_loader.py` reads both by batches. Rows are in the order of the files, or in that of their ids.
    """

    required = ("index.h5", "images.json")

    def __init__(self, folder: Path | str, ordered: bool = False):
        super().__init__(folder)
        self._ordered = ordered

    def by_id(self) -> Images:
        """The same images, their rows in the order of their ids, however they lie on disk."""
        return Images(self.folder, ordered=True)

    @cached_property
    def places(self) -> numpy.ndarray | None:
        """(N,) where the image of each row lies in the files; None where row and place are the same."""
        ids = self._index.strings("ids")
        if not self._ordered or all(a < b for a, b in pairwise(ids)):
            return None
        return np.array(sorted(range(len(ids)), key=ids.__getitem__))

    def place(self, row: int) -> int:
        """Where the image of a row lies in the files."""
        return row if self.places is None else int(self.places[row])

    @cached_property
    def card(self) -> dict[str, Any]:
        return self._json("images.json")

    @property
    def stored(self) -> numpy.ndarray:
        """(N, S, S, 3) uint8 of a raw set as they lie in the file, mapped anew at each call."""
        return self._mapped("images.npy")

    @property
    def pixels(self) -> numpy.ndarray:
        """(N, S, S, 3) uint8 of a raw set by its rows; in memory where these are not in the order of the file."""
        return self.stored if self.places is None else self.stored[self.places]

    @property
    def form(self) -> str:
        """`raw` or `jpeg`."""
        return self.card.get("form", "raw")

    def encoded(self, row: int) -> bytes:
        """The JPEG bytes of an image of a `jpeg` set; from any thread or forked process."""
        place = self.place(row)
        start, end = self._offsets[place : place + 2].tolist()
        return os.pread(self._bytes.fileno(), end - start, start)

    def picture(self, row: int) -> numpy.ndarray:
        """(S, S, 3) uint8 of one image, of either form; OSError where it is damaged."""
        if self.form == "raw":
            return self.stored[self.place(row)]
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.encoded(row)), formats=("JPEG",)) as image:
                return np.asarray(image.convert("RGB"))
        except (
            Exception
        ) as error:  # decoders raise almost anything on bytes that make no sense to them
            raise OSError(" ".join(str(error).split()) or type(error).__name__) from error

    @cached_property
    def _offsets(self) -> numpy.ndarray:
        return self._mapped("offsets.npy")

    @cached_property
    def _bytes(self) -> IO[bytes]:
        try:
            return open(self.folder / "images.bin", "rb")
        except OSError as error:
            raise CorruptArtifact(self.folder, f"images.bin cannot be read ({error})") from error

    def _mapped(self, name: str) -> numpy.ndarray:
        try:
            return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CorruptArtifact(self.folder, f"{name} cannot be read ({error})") from error

    def __len__(self) -> int:
        return self._index.shapes["ids"][0]

    @property
    def size(self) -> int:
        return self.card["size"]

    @property
    def classes(self) -> list[str]:
        return self.card["classes"]

    @cached_property
    def ids(self) -> list[str]:
        ids = self._index.strings("ids")
        return ids if self.places is None else [ids[place] for place in self.places]

    @cached_property
    def labels(self) -> numpy.ndarray | None:
        """(N,) int64, or None for a set without labels."""
        labels = self._index.read("labels") if "labels" in self._index else None
        return labels if labels is None or self.places is None else labels[self.places]

    @cached_property
    def _index(self) -> TableReader:
        return TableReader(self.folder / "index.h5")
