"""Packing: a split is decoded and resized once, into files that every later stage maps into memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from transfer.artifacts import Images, write_json
from transfer.datasets.origin import Origin
from transfer.datasets.packed.packed_annotations import write_annotations
from transfer.datasets.packed.subset import limit_per_class, subset
from transfer.datasets.packed.writers import JpegFile, PackedFile, RawFile
from transfer.datasets.readers.base import Listing, Source, Split
from transfer.datasets.spec import ImageSpec
from transfer.errors import TransferError, UsageError
from transfer.stage.base import ImagePack
from transfer.storage.hdf5_tables import encode_strings, write_table
from transfer.utils.formatting import fault_list
from transfer.utils.lazy_imports import np
from transfer.utils.stamp_cache import StampCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy

    from transfer.datasets.packed.decode_workers import Told
    from transfer.stage.context import StageContext

BLOCK_IMAGES = 1024
BLOCK_BYTES = 32 << 20  # of packed images: what is in memory at once, whatever their size
SAVE_EVERY = 2.0  # seconds between checkpoints, at most: each waits for the disk
RAW_BYTES = 16 << 30  # up to which `pack: auto` keeps pixels


class Pack(ImagePack):
    """The images of one split, decoded, resized to a square and packed. Planned for each set that is read."""

    produces = Images
    seeded = False
    version: ClassVar[int] = 3

    spec: ImageSpec
    split: str
    size: int
    origin: Origin
    facts: Split
    classes: list[str]
    memory: Path  # where surveys are remembered

    def identity(self) -> dict[str, Any]:
        chosen = self.spec.model_dump(
            include={
                "classes",
                "per_class",
                "fraction",
                "limit",
                "subset_seed",
                "fit",
                "on_bad_image",
            }
        )
        return {
            "fingerprint": self.facts.fingerprint,
            "size": self.size,
            "pack": self.form,
            **chosen,
        }

    def shares_ids(self, other: ImagePack) -> bool:
        """Whether an id stands for the same image in both: splits of one set, or a split and its copy."""
        return isinstance(other, Pack) and (
            self.origin.files == other.origin.files
            or self.facts.fingerprint == other.facts.fingerprint
        )

    @property
    def count(self) -> int:
        """How many images there will be, at most."""
        return limit_per_class(self.spec.subset_spec(), self.facts.count, len(self.classes))

    @property
    def set_name(self) -> str:
        """Where the set comes from."""
        return self.origin.location

    @property
    def is_labeled(self) -> bool:
        """Whether the split has labels."""
        return self.facts.labeled

    @property
    def note(self) -> str:
        """What a person should know of the split, if anything: that it is not as large as its card says."""
        told = self.origin.card.splits.get(self.split) if self.origin.card else None
        if told is None or told == self.facts.count:
            return ""
        return f"split '{self.split}' of {self.spec.location} has {self.facts.count:,} images; its card says {told:,}"

    @property
    def form(self) -> str:
        """`raw` or `jpeg`."""
        if self.spec.pack != "auto":
            return self.spec.pack
        return "raw" if self.count * self.size * self.size * 3 <= RAW_BYTES else "jpeg"

    def run(self, context: StageContext) -> None:
        source = self.origin.open()
        listing = source.listing(self.split)
        rows, labels, classes = subset(
            self.spec.subset_spec(),
            len(listing.ids),
            listing.labels,
            self.classes,
            self.spec.location,
        )
        if not len(rows):
            raise TransferError(
                f"nothing is left of {self.spec.location}, split '{self.split}': see `classes`, `limit`"
            )
        kind = RawFile if self.form == "raw" else JpegFile
        packed = kind(context.checkpoints, len(rows), self.size)
        seen, bad = self._resume(context, packed)
        block = max(1, min(BLOCK_IMAGES, BLOCK_BYTES // (self.size * self.size * 3)))
        saved = time.monotonic()
        with context.progress("packing", len(rows), "images", seen) as progress:
            for some, pixels, told in self._decoded(context, listing, rows[seen:].tolist(), block):
                faults = {
                    some[place]: text for place, text in told.items() if isinstance(text, str)
                }
                bad |= {str(row): f"{listing.ids[row]}: {text}" for row, text in faults.items()}
                seen += len(some)
                # A set that will be refused is looked through to its end, so that all its faults are told at once.
                if not bad or self.spec.on_bad_image == "skip":
                    packed.append(
                        [told.get(i, pixels[i]) for i in range(len(some)) if some[i] not in faults]
                    )
                    if context.stop.number or time.monotonic() - saved > min(
                        SAVE_EVERY, context.runtime.save_every
                    ):
                        context.save_progress(
                            f"image {seen} of {len(rows)}", images=seen, bad=bad, **packed.flushed()
                        )
                        saved = time.monotonic()
                progress.advance(len(some))
                context.pause_point()
        self._hold(
            source
        )  # once, when all was read: what changed on the way, and what had changed before, is told alike
        self._judge(context, bad, len(rows))
        kept = np.array([str(row) not in bad for row in rows.tolist()])
        packed.finish(context.folder)
        self._describe(
            context, listing, rows[kept], None if labels is None else labels[kept], classes, bad
        )

    def _resume(self, context: StageContext, packed: PackedFile) -> tuple[int, dict[str, str]]:
        """How many rows an interrupted run has seen, and which of them were bad."""
        saved = context.saved_progress()
        if saved and packed.resume(saved):
            return saved["images"], saved["bad"]
        packed.start()
        return 0, {}

    def _decoded(
        self, context: StageContext, listing: Listing, rows: list[int], block: int
    ) -> Iterator[tuple[list[int], numpy.ndarray, Told]]:
        """Blocks of rows with their squares and what is told of them; the next block is decoded meanwhile."""
        from transfer.datasets.packed.decode import square
        from transfer.datasets.packed.decode_workers import Decoders, wait

        blocks = [rows[start : start + block] for start in range(0, len(rows), block)]
        if listing.render is not None:
            for some in blocks:
                yield (
                    some,
                    np.stack(
                        [square(one, self.size, self.spec.fit) for one in listing.render(some)]
                    ),
                    {},
                )
            return
        squared = ImageSquarer(listing, self.size, self.spec.fit, jpeg=self.form == "jpeg")
        block = min(block, max(1, len(rows)))
        with Decoders(squared, self.size, block, 2, context.runtime.threads, len(rows)) as decoders:
            ahead = decoders.load(0, blocks[0]) if blocks else []
            for number, some in enumerate(blocks):
                told = wait(ahead)
                if number + 1 < len(blocks):
                    ahead = decoders.load((number + 1) % 2, blocks[number + 1])
                yield some, decoders.slots[number % 2], told

    def _hold(self, source: Source) -> None:
        """The files must be those that the key was made of: a result under it stands for their bytes."""
        try:
            now = source.survey(StampCache(self.memory))
            same = now.splits.get(self.split) == self.facts
        except UsageError as error:
            raise TransferError(str(error)) from error
        if not same:
            raise TransferError(
                f"{self.spec.location} has changed since this run looked at it:"
                f"{fault_list(now.changes or ['its bytes are not the same'])}\nRun the same command again."
            )

    def _judge(self, context: StageContext, bad: dict[str, str], count: int) -> None:
        faults = list(bad.values())
        if faults and self.spec.on_bad_image == "refuse":
            raise TransferError(
                f"{len(faults)} of {count} images of {self.spec.location} cannot be used:{fault_list(faults)}\n"
                "Mend or remove them, or say `on_bad_image: skip` for this set, then run the same command again."
            )
        if len(faults) == count:
            raise TransferError(
                f"none of the {count} images of {self.spec.location} can be used:{fault_list(faults)}"
            )
        if faults:
            context.note(f"{len(faults)} of {count} images were skipped:{fault_list(faults)}")
            context.figures["skipped"] = len(faults)

    def _describe(
        self,
        context: StageContext,
        listing: Listing,
        rows: numpy.ndarray,
        labels: numpy.ndarray | None,
        classes: list[str],
        bad: dict[str, str],
    ) -> None:
        """Write what stands beside the pixels."""
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


class ImageSquarer:
    """Row of a listing -> its square: pixels, or JPEG bytes where that is what is packed."""

    def __init__(self, listing: Listing, size: int, fit: str, jpeg: bool):
        self.read, self.size, self.fit, self.jpeg = listing.read, size, fit, jpeg

    def __call__(self, row: int) -> numpy.ndarray | bytes:
        from transfer.datasets.packed.decode import decode, is_square_jpeg, square, to_jpeg

        data = self.read(row)
        picture = decode(data) if isinstance(data, bytes) else data
        if self.jpeg and isinstance(data, bytes) and is_square_jpeg(data, self.size):
            return data  # as it is: encoding it again would only lose
        picture = square(picture, self.size, self.fit)
        return to_jpeg(picture) if self.jpeg else picture
