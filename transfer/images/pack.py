"""Packing: a split is decoded and resized once, into an array that every later stage maps into memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from transfer.artifacts import Images, read_json, write_json
from transfer.errors import TransferError, UsageError
from transfer.images.cards import load_card
from transfer.images.sources import DEFAULT_SIZE, Source, Split, Survey, SurveyMemory
from transfer.images.spec import ImageSpec
from transfer.lazy import np
from transfer.stage import Stage
from transfer.tables import encode_strings, write_table

if TYPE_CHECKING:
    from transfer.work import Work

BLOCK = 1024
SHOWN = 10


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

    def identity(self) -> dict[str, Any]:
        return {"fingerprint": self.facts.fingerprint, "size": self.size, "limit": self.spec.limit}

    @property
    def count(self) -> int:
        """How many images there will be."""
        return min(self.facts.count, self.spec.limit or self.facts.count)

    def run(self, work: Work) -> None:
        listing = make_source(self.reader, Path(self.place), self.spec.labels).listing(self.split)
        # Drawn, not every n-th: a set may be sorted by class, or its classes may take turns.
        order = np.random.RandomState(0).permutation(len(listing.ids))
        rows = np.sort(order[: self.count]).tolist()
        done = self._resume(work)
        faults: list[str] = []
        with (
            open(work.checkpoints / "pixels", "r+b" if done else "wb") as file,
            work.progress("packing", len(rows), "images", done) as progress,
        ):
            file.seek(done * self._image_bytes)
            for start in range(done, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                pictures = listing.squares(block, self.size)
                faults += [
                    f"{listing.ids[row]}: {picture}"
                    for row, picture in zip(block, pictures, strict=True)
                    if isinstance(picture, str)
                ]
                if not faults:
                    file.write(np.stack(pictures).tobytes())
                    file.flush()
                    os.fsync(file.fileno())
                    write_json(work.checkpoints / "progress.json", {"images": start + len(block)})
                progress.advance(len(block))
                work.pause_point()
        if faults:
            self._refuse(faults)
        self._finish(work, [listing.ids[row] for row in rows], listing.labels and [listing.labels[row] for row in rows])

    @property
    def _image_bytes(self) -> int:
        return self.size * self.size * 3

    def _resume(self, work: Work) -> int:
        """How many images an earlier run left behind, whole."""
        marker, pixels = work.checkpoints / "progress.json", work.checkpoints / "pixels"
        if not (marker.exists() and pixels.exists()):
            return 0
        done = read_json(marker)["images"]
        return done if pixels.stat().st_size >= done * self._image_bytes else 0

    def _refuse(self, faults: list[str]) -> None:
        more = f"\n  ... and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise TransferError(
            f"{len(faults)} of {self.count} images of {self.spec.place} cannot be used:\n  "
            + "\n  ".join(faults[:SHOWN]) + more + "\nMend or remove them, then run the same command again."
        )  # fmt: skip

    def _finish(self, work: Work, ids: list[str], labels: list[int] | None) -> None:
        shape = (len(ids), self.size, self.size, 3)
        with (
            open(work.folder / "images.npy", "wb") as target,
            open(work.checkpoints / "pixels", "rb") as pixels,
        ):
            np.lib.format.write_array_header_1_0(target, {"descr": "|u1", "fortran_order": False, "shape": shape})
            while block := pixels.read(1 << 22):
                target.write(block)
        columns = {"ids": encode_strings(ids)} | (
            {"labels": np.array(labels, dtype=np.int64)} if labels is not None else {}
        )
        write_table(work.folder / "index.h5", columns)
        count = max([len(self.classes), *(label + 1 for label in labels or [])])
        classes = self.classes + [str(i) for i in range(len(self.classes), count)]
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

    def __init__(self, memory: SurveyMemory, beside: Path):
        self._memory, self._beside = memory, beside
        self._seen: dict[tuple[str, str, bool], Survey] = {}

    def locate(self, spec: ImageSpec) -> tuple[str, str, int | None]:
        """(reader, place, side of the images in px or None) of `spec`; relative paths start at the pipeline's folder."""
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
            self._seen[seen] = make_source(reader, Path(place), spec.labels).survey(self._memory)
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
        if labelled and not facts.labelled:
            raise UsageError(f"image set '{spec.place}', split '{split}', has no labels, and this stage needs them")
        size = spec.size or own_size or survey.size or DEFAULT_SIZE
        return Pack(spec=spec, split=split, size=size, place=place, reader=reader, facts=facts, classes=survey.classes)

    @staticmethod
    def _path(text: str, start: Path) -> str:
        return str(Path(os.path.abspath(start / Path(text).expanduser())))
