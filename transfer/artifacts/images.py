"""Images: a packed split."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

from transfer.artifacts.base import Artifact, JsonCard
from transfer.errors import CorruptArtifact
from transfer.storage.hdf5_tables import TableReader
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class PackedImagesCard:
    """`images.json`."""

    size: int  # side in px
    classes: list[str]  # class names; empty without labels
    split: str
    form: str  # `raw` or `jpeg`
    fit: str  # how images became squares: `crop` or `stretch`
    skipped: list[str]  # images that were left out, with the reason

    @classmethod
    def from_json(cls, path: Path) -> PackedImagesCard:
        """Read `images.json`; CorruptArtifact if a field is missing or of a wrong type."""
        card = JsonCard(path)
        return cls(
            size=card.field("size", int),
            classes=card.field("classes", list),
            split=card.field("split", str),
            form=card.field("form", str, "raw"),
            fit=card.field("fit", str, "crop"),
            skipped=card.field("skipped", list, []),
        )


class Images(Artifact):
    """A packed split: memory-mapped pixels or JPEG bytes, and `index.h5` with ids and labels.

    Raw images: `images.npy` (N, S, S, 3) uint8. JPEG images of S x S px: their bytes in
    `images.bin`, and `offsets.npy` (N + 1,). `transfer/datasets/packed/batch_loader.py` reads
    batches of both.

    Args:
        folder: the artifact's folder.
        ordered: sort the rows by id; by default, rows are in the order of the files.
    """

    required = ("index.h5", "images.json")

    def __init__(self, folder: Path | str, ordered: bool = False):
        super().__init__(folder)
        self._ordered = ordered

    def by_id(self) -> Images:
        """Return the same images with rows sorted by id."""
        return Images(self.folder, ordered=True)

    @cached_property
    def places(self) -> numpy.ndarray | None:
        """(N,) position of each row's image in the files; None if rows are in file order."""
        ids = self._index.strings("ids")
        if not self._ordered or all(a < b for a, b in pairwise(ids)):
            return None
        return np.array(sorted(range(len(ids)), key=ids.__getitem__))

    def place(self, row: int) -> int:
        """Return the position of a row's image in the files."""
        return row if self.places is None else int(self.places[row])

    @cached_property
    def card(self) -> PackedImagesCard:
        """The facts in `images.json`."""
        return PackedImagesCard.from_json(self.folder / "images.json")

    @property
    def stored(self) -> numpy.ndarray:
        """(N, S, S, 3) uint8 of raw images in file order; each call maps the file again."""
        return self._mapped("images.npy")

    @property
    def pixels(self) -> numpy.ndarray:
        """(N, S, S, 3) uint8 of raw images by row; copied to memory if not in file order."""
        return self.stored if self.places is None else self.stored[self.places]

    @property
    def form(self) -> str:
        """`raw` or `jpeg`."""
        return self.card.form

    def encoded(self, row: int) -> bytes:
        """Return the JPEG bytes of a row, in any thread or forked process."""
        place = self.place(row)
        start, end = self._offsets[place : place + 2].tolist()
        return os.pread(self._bytes.fileno(), end - start, start)

    def picture(self, row: int) -> numpy.ndarray:
        """Return (S, S, 3) uint8 of a row, in either form; OSError if it is damaged."""
        if self.form == "raw":
            return self.stored[self.place(row)]
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.encoded(row)), formats=("JPEG",)) as image:
                return np.asarray(image.convert("RGB"))
        except Exception as error:  # decoders raise many types for damaged bytes
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
        """The side of the images in px."""
        return self.card.size

    @property
    def classes(self) -> list[str]:
        """The names of the classes; empty without labels."""
        return self.card.classes

    @cached_property
    def ids(self) -> list[str]:
        """The id of each row."""
        ids = self._index.strings("ids")
        return ids if self.places is None else [ids[place] for place in self.places]

    @cached_property
    def labels(self) -> numpy.ndarray | None:
        """(N,) int64, or None without labels."""
        labels = self._index.read("labels") if "labels" in self._index else None
        return labels if labels is None or self.places is None else labels[self.places]

    @cached_property
    def _index(self) -> TableReader:
        return TableReader(self.folder / "index.h5")
