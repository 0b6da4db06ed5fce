"""Packing: a split is decoded and resized once, into files that every later stage maps."""

from __future__ import annotations

import time
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from transfer.artifacts import Images, write_json
from transfer.datasets.origin import Origin
from transfer.datasets.packed.bad_images import check_bad_images
from transfer.datasets.packed.decode_remarks import decode_notes
from transfer.datasets.packed.packed_annotations import write_annotations
from transfer.datasets.packed.squares import ImageSquarer, split_outcomes, square_blocks
from transfer.datasets.packed.subset import limit_per_class, subset
from transfer.datasets.packed.writers import JpegFile, PackedFile, RawFile
from transfer.datasets.readers.base import Listing, Source, Split
from transfer.datasets.spec import ImageSpec
from transfer.datasets.split_changes import changes_since, record_changes
from transfer.errors import TransferError, UsageError
from transfer.stage.base import ImagePack
from transfer.storage.hdf5_tables import encode_strings, write_table
from transfer.utils.formatting import fault_list, plural
from transfer.utils.lazy_imports import np
from transfer.utils.stamp_cache import StampCache

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

BLOCK_IMAGES = 1024
BLOCK_BYTES = 32 << 20  # of packed images in memory at once, for any size of image
SAVE_EVERY = 2.0  # seconds between checkpoints at most; each waits for the disk
RAW_BYTES = 16 << 30  # up to which `pack: auto` keeps pixels


class Pack(ImagePack):
    """The stage that packs one split: its images are decoded, resized to squares and written.

    It is planned for each split that is read, and is not in the pipeline file.
    """

    produces = Images
    seeded = False
    version: ClassVar[int] = 4

    spec: ImageSpec
    split: str
    size: int
    origin: Origin
    facts: Split
    classes: list[str]
    memory: Path  # folder that keeps surveys

    def identity(self) -> dict[str, Any]:
        """Return what the packed bytes depend on; the files are known by their fingerprint."""
        subset_options = {"classes", "per_class", "fraction", "limit", "subset_seed"}
        pixel_options = {"fit", "value_range", "max_pixels", "on_bad_image"}
        return {
            "fingerprint": self.facts.fingerprint,
            "size": self.size,
            "pack": self.form,
            **self.spec.model_dump(include=subset_options | pixel_options),
        }

    def shares_ids(self, other: ImagePack) -> bool:
        """Whether an id names the same image in both: splits of one set, or copies of a split."""
        return isinstance(other, Pack) and (
            self.origin.files == other.origin.files
            or self.facts.fingerprint == other.facts.fingerprint
        )

    @property
    def count(self) -> int:
        """The largest number of images that the subset can have."""
        return limit_per_class(self.spec.subset_spec(), self.facts.count, len(self.classes))

    @property
    def set_name(self) -> str:
        """The location of the set: a path, or `drawings`."""
        return self.origin.location

    @property
    def is_labeled(self) -> bool:
        """Whether the split has labels."""
        return self.facts.labeled

    @property
    def set_figures(self) -> dict[str, Any]:
        """Which files of the split are not taken, by reason, and the classes that it loses."""
        left_out = self.facts.left_out
        figures = {"left_out": left_out.counts, "lost_classes": left_out.lost_classes}
        return {name: value for name, value in figures.items() if value}

    @property
    def note(self) -> str:
        """A note for the plan: files left out, a folder that may be meant, a size that differs."""
        notes = [self.facts.left_out.text, self.facts.hint]
        expected = self.origin.card.splits.get(self.split) if self.origin.card else None
        if expected not in (None, self.facts.count):
            notes.append(
                f"split '{self.split}' of {self.spec.location} has {self.facts.count:,} images; "
                f"its card says {expected:,}"
            )
        return "; ".join(filter(None, notes))

    def changed_images(self, former: str) -> str:
        """Name the files that changed since the split had another fingerprint."""
        return changes_since(StampCache(self.memory), self.origin, self.split, former)

    @property
    def form(self) -> str:
        """`raw` or `jpeg`."""
        if self.spec.pack != "auto":
            return self.spec.pack
        return "raw" if self.count * self.size * self.size * 3 <= RAW_BYTES else "jpeg"

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Raise TransferError for a subset that asks for classes or images that do not exist."""
        if self.spec.classes or self.spec.per_class:
            self.subset_rows()

    def subset_rows(self) -> tuple[numpy.ndarray, numpy.ndarray | None]:
        """Return the rows of the subset in the set's split, and their labels.

        TransferError as of `subset`.
        """
        rows, labels, _ = self._subset(self.origin.open().listing(self.split))
        return rows, labels

    def _subset(self, listing: Listing) -> tuple[numpy.ndarray, numpy.ndarray | None, list[str]]:
        return subset(
            self.spec.subset_spec(),
            len(listing.ids),
            listing.labels,
            self.classes,
            self.spec.location,
        )

    def run(self, context: StageContext) -> None:
        """Write the packed images, their index, annotations and card into the artifact's folder."""
        source = self.origin.open()
        listing = source.listing(self.split)
        rows, labels, classes = self._subset(listing)
        if not len(rows):
            raise TransferError(
                f"{self.spec.location}: the subset of split '{self.split}' is empty; "
                "see `classes`, `limit`"
            )
        kind = RawFile if self.form == "raw" else JpegFile
        packed = kind(context.checkpoints, len(rows), self.size)
        bad, remarks = self._write_images(context, listing, rows, packed)
        # Checked once, after all was read, so that changes before and during the run are
        # reported alike.
        self._check_unchanged(source)
        check_bad_images(context, self.spec, list(bad.values()), len(rows))
        for note in decode_notes(remarks, self.spec.decode_options().value_range):
            context.note(note)
        kept = np.array([str(row) not in bad for row in rows.tolist()])
        packed.finish(context.folder)
        kept_labels = None if labels is None else labels[kept]
        self._write_index(context, listing, rows[kept], kept_labels, classes, bad)
        context.figures.update(self.set_figures)
        if labels is not None:
            lost = sorted({*labels.tolist()} - {*labels[kept].tolist()})
            names = [classes[label] if label < len(classes) else str(label) for label in lost]
            if names:
                count = plural(len(names), "class", "classes")
                context.note(f"no images are left of {count}:{fault_list(names)}")

    def _write_images(
        self, context: StageContext, listing: Listing, rows: numpy.ndarray, packed: PackedFile
    ) -> tuple[dict[str, str], Counter[str]]:
        """Write the squares of `rows`.

        Return the faults of bad images, row -> message, and how many images have which remark.
        """
        rows_read, bad, remarks = self._resume(context, packed)
        block = max(1, min(BLOCK_IMAGES, BLOCK_BYTES // (self.size * self.size * 3)))
        save_every = min(SAVE_EVERY, context.runtime.save_every)
        saved = time.monotonic()
        squarer = ImageSquarer(
            listing, self.size, self.spec.fit, self.form == "jpeg", self.spec.decode_options()
        )
        blocks = square_blocks(
            squarer, listing, rows[rows_read:].tolist(), block, context.runtime.threads
        )
        with context.progress("packing", len(rows), "images", rows_read) as progress:
            for block_rows, pixels, outcomes in blocks:
                faults, squares = split_outcomes(block_rows, pixels, outcomes)
                remarks.update(chain.from_iterable(each.remarks for each in outcomes.values()))
                bad |= {str(row): f"{listing.ids[row]}: {text}" for row, text in faults.items()}
                rows_read += len(block_rows)
                # A set that will be refused is read to its end, to report all its faults at once.
                if not bad or self.spec.on_bad_image == "skip":
                    packed.append(squares)
                    if context.stop.number or time.monotonic() - saved > save_every:
                        context.save_progress(
                            f"image {rows_read} of {len(rows)}",
                            images=rows_read,
                            bad=bad,
                            remarks=dict(remarks),
                            **packed.flushed(),
                        )
                        saved = time.monotonic()
                progress.advance(len(block_rows))
                context.pause_point()
        return bad, remarks

    def _resume(
        self, context: StageContext, packed: PackedFile
    ) -> tuple[int, dict[str, str], Counter[str]]:
        """Return how many rows an interrupted run has read, with their faults and remarks."""
        saved = context.saved_progress()
        if saved and packed.resume(saved):
            return saved["images"], saved["bad"], Counter(saved["remarks"])
        packed.start()
        return 0, {}, Counter()

    def _check_unchanged(self, source: Source) -> None:
        """Raise TransferError if the files differ from those of the key."""
        try:
            survey = source.survey(StampCache(self.memory))
            record_changes(StampCache(self.memory), self.origin, survey, self.split)
            same = survey.splits.get(self.split) == self.facts
        except UsageError as error:
            raise TransferError(str(error)) from error
        if not same:
            raise TransferError(
                f"{self.spec.location} has changed since this run looked at it:"
                f"{fault_list(survey.changes or ['its bytes differ'])}\nRun the same command again."
            )

    def _write_index(
        self,
        context: StageContext,
        listing: Listing,
        rows: numpy.ndarray,
        labels: numpy.ndarray | None,
        classes: list[str],
        bad: dict[str, str],
    ) -> None:
        """Write all files of the artifact but the pixels: index, annotations and card."""
        columns = {"ids": encode_strings([listing.ids[row] for row in rows.tolist()])}
        if labels is not None:
            columns["labels"] = labels
            classes = classes or [str(label) for label in range(int(labels.max()) + 1)]
        write_table(context.folder / "index.h5", columns)
        if listing.annotations is not None:
            classes = classes or listing.annotations.classes
            write_annotations(context.folder, listing, rows.tolist())
        card = {
            "size": self.size,
            "split": self.split,
            "classes": classes,
            "form": self.form,
            "fit": self.spec.fit,
        }
        write_json(context.folder / "images.json", {**card, "skipped": list(bad.values())})
        context.figures.update(images=len(rows))
