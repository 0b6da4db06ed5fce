"""Packing: a split is decoded and resized once, into an array that every later stage maps into memory."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from transfer.artifacts import Images, write_json
from transfer.errors import TransferError, UsageError
from transfer.images.cards import load_card
from transfer.images.sources import DEFAULT_SIZE, Source, Split, Survey, SurveyMemory, listed
from transfer.images.spec import SIZES, ImageSpec
from transfer.lazy import np
from transfer.stage import Stage
from transfer.tables import encode_strings, write_table

if TYPE_CHECKING:
    from transfer.work import Work

BLOCK_IMAGES = 1024
BLOCK_BYTES = 32 << 20  # of packed images: what is in memory at once, whatever their size


class Pack(Stage):
    """The images of one split, decoded, resized to a square and packed as uint8. Planned for each set that is read."""

    produces = Images
    seeded = False
    version: ClassVar[int] = 1

    spec: ImageSpec
    split: str
    size: int
    place: str  # path of the files, or name of the reader that needs none
    reader: str
    facts: Split
    classes: list[str]
    memory: Path  # where surveys are remembered

    def identity(self) -> dict[str, Any]:
        return {"fingerprint": self.facts.fingerprint, "size": self.size, "limit": self.spec.limit}

    @property
    def count(self) -> int:
        """How many images there will be."""
        return min(self.facts.count, self.spec.limit or self.facts.count)

    def run(self, work: Work) -> None:
        source = make_source(self.reader, Path(self.place), self.spec.labels)
        self._hold(source)
        listing = source.listing(self.split)
        # Drawn, not every n-th: a set may be sorted by class, or its classes may take turns.
        order = np.random.RandomState(0).permutation(len(listing.ids))
        rows = np.sort(order[: self.count]).tolist()
        header = self._header(len(rows))
        each = self.size * self.size * 3
        block = max(1, min(BLOCK_IMAGES, BLOCK_BYTES // each))
        pixels = work.checkpoints / "images.npy"
        done = work.saved_progress().get("images", 0)
        if not pixels.exists() or pixels.stat().st_size < len(header) + done * each:
            done = 0
        faults: list[str] = []
        with (
            open(pixels, "r+b" if done else "wb") as file,
            work.progress("packing", len(rows), "images", done) as progress,
        ):
            file.write(header)
            file.seek(len(header) + done * each)
            for start in range(done, len(rows), block):
                some = rows[start : start + block]
                pictures = listing.squares(some, self.size)
                for row, picture in zip(some, pictures, strict=True):
                    if isinstance(picture, str):
                        faults.append(f"{listing.ids[row]}: {picture}")
                    elif not faults:
                        file.write(picture.tobytes())
                if not faults:
                    file.flush()
                    os.fsync(file.fileno())
                    work.save_progress(f"image {start + len(some)} of {len(rows)}", images=start + len(some))
                progress.advance(len(some))
                work.pause_point()
        self._hold(source)
        if faults:
            raise TransferError(
                f"{len(faults)} of {self.count} images of {self.spec.place} cannot be used:{listed(faults)}\n"
                "Mend or remove them, then run the same command again."
            )
        shutil.move(pixels, work.folder / "images.npy")
        self._describe(
            work, [listing.ids[row] for row in rows], listing.labels and [listing.labels[row] for row in rows]
        )

    def _hold(self, source: Source) -> None:
        """The files must be those that the key was made of: a result under it stands for their bytes."""
        try:
            now = source.survey(SurveyMemory(self.memory))
        except UsageError as error:
            raise TransferError(str(error)) from error
        if now.splits.get(self.split) != self.facts:
            raise TransferError(
                f"{self.spec.place} has changed since this run looked at it:"
                f"{listed(now.changes or ['its bytes are not the same'])}\nRun the same command again."
            )

    def _header(self, count: int) -> bytes:
        header = io.BytesIO()
        facts = {"descr": "|u1", "fortran_order": False, "shape": (count, self.size, self.size, 3)}
        np.lib.format.write_array_header_1_0(header, facts)
        return header.getvalue()

    def _describe(self, work: Work, ids: list[str], labels: list[int] | None) -> None:
        """Write what stands beside the pixels."""
        columns, classes = {"ids": encode_strings(ids)}, []
        if labels is not None:
            columns["labels"] = np.array(labels, dtype=np.int64)
            classes = self.classes or [str(label) for label in range(max(labels) + 1)]
        write_table(work.folder / "index.h5", columns)
        write_json(work.folder / "images.json", {"size": self.size, "split": self.split, "classes": classes})
        work.figures.update(images=len(ids))


def make_source(reader: str, place: Path, labelled: bool) -> Source:
    """The source that a reader's name stands for."""
    if reader == "folder":
        from transfer.images.folder import FolderSource

        return FolderSource(place, labelled)
    if reader == "hdf5":
        from transfer.images.hdf5 import Hdf5Source

        return Hdf5Source(place)
    from transfer.images.drawn import DrawingsSource

    return DrawingsSource()


class ImageSets:
    """Finds the sets that pipeline files name; looks at each once."""

    def __init__(self, memory: Path, beside: Path):
        """`memory` is the folder where surveys are remembered; relative paths start at `beside`."""
        self._memory, self._beside = memory, beside
        self._seen: dict[tuple[str, str, bool], Survey] = {}

    def locate(self, spec: ImageSpec) -> tuple[str, str, int | None]:
        """(reader, place, side of the images in px or None) of `spec`."""
        if spec.folder or spec.hdf5:
            return ("folder" if spec.folder else "hdf5"), self._path(spec.place, self._beside), None
        card, file = load_card(spec.place, self._beside)
        if card.reader == "drawings":
            return "drawings", "drawings", card.size
        if card.path is None:
            raise UsageError(f"'{card.name}' is a layout, not a set: write `data: {{{card.reader}: PATH}}`")
        return card.reader, self._path(card.path, file.parent), card.size

    def survey(self, spec: ImageSpec) -> Survey:
        """What is there; UsageError where nothing is."""
        reader, place, _ = self.locate(spec)
        seen = (reader, place, spec.labels)
        if seen not in self._seen:
            self._seen[seen] = make_source(reader, Path(place), spec.labels).survey(SurveyMemory(self._memory))
        return self._seen[seen]

    def pack(self, spec: ImageSpec, wanted: str, labelled: bool) -> Pack:
        """The stage that packs the split of `spec` that a stage asks for; UsageError where there is none."""
        reader, place, own_size = self.locate(spec)
        survey = self.survey(spec)
        try:
            split = survey.find(spec.split or wanted, explicit=spec.split is not None)
        except UsageError as error:
            raise UsageError(f"image set '{spec.place}' {error}") from error
        facts = survey.splits[split]
        if not facts.count:
            raise UsageError(f"image set '{spec.place}', split '{split}', holds no images")
        if labelled and not facts.labelled:
            raise UsageError(f"image set '{spec.place}', split '{split}', has no labels, and this stage needs them")
        size = spec.size or own_size or survey.size or DEFAULT_SIZE
        if not SIZES[0] <= size <= SIZES[1]:
            raise UsageError(f"image set '{spec.place}' has images of {size} px: say `size:`, {SIZES[0]} to {SIZES[1]}")
        return Pack(
            spec=spec,
            split=split,
            size=size,
            place=place,
            reader=reader,
            facts=facts,
            classes=survey.classes,
            memory=self._memory,
        )

    @staticmethod
    def _path(text: str, start: Path) -> str:
        return str(Path(os.path.abspath(start / os.path.expanduser(text))))
