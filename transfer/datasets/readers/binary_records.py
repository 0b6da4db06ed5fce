"""Reader `records`: images of one size in a few large files of pixels.

STL-10, CIFAR and Fashion-MNIST are such datasets. `Records` in card_schema.py describes what a card
may contain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.datasets.card_schema import Block, Records
from transfer.datasets.readers.base import MAX_CLASSES, Listing, Split
from transfer.datasets.readers.card_reader import CardSource, ChangeTracker, missing_text
from transfer.datasets.readers.file_tree import FolderTree
from transfer.datasets.readers.packed_files import extract, find_file, gunzip
from transfer.datasets.readers.record_formats import (
    RecordFile,
    read_bytes,
    read_idx,
    read_pickled,
    read_raw,
    read_row_numbers,
)
from transfer.errors import UsageError
from transfer.utils.formatting import plural
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.datasets.cards import Card


class RecordsSource(CardSource):
    """Images whose ids are their file and their row in it: train_X/17.

    Plain files are read row by row, so they may be larger than the memory.
    """

    def __init__(self, card: Card, path: Path):
        super().__init__(card, path)
        assert card.records is not None
        self.recipe: Records = card.records
        # The layout in which each complete split lies here, and the archive that holds it, if any.
        self._blocks: dict[str, tuple[Block, str | None]] = {}

    def missing_files(self) -> dict[str, str]:
        missing, self._blocks = {}, {}
        for split, blocks in self.recipe.splits.items():
            block = self._complete_block(blocks)
            if block is None:
                problems = [self._missing_of(block) for block in blocks]
                missing[split] = missing_text(self.path, problems)
            else:
                self._blocks[split] = block
                missing[split] = ""
        return missing

    def _complete_block(self, blocks: Sequence[Block]) -> tuple[Block, str | None] | None:
        """Return the first layout whose plain files exist, else the first with its archive."""
        for block in blocks:
            if not self._missing_of(block):
                return block, None
        for block in blocks:
            if archive := self._archive(block):
                return block, archive
        return None

    def _missing_of(self, block: Block) -> str:
        """Return the first name of a block that does not exist as a plain file."""
        return next((name for name in _names(block) if not self._plain_file(name)), "")

    def _plain_file(self, name: str) -> str | None:
        return find_file(self.path, name, self.recipe.roots) if self.path.is_dir() else None

    def _archive(self, block: Block) -> str | None:
        if not self.path.is_dir():
            return self.path.name if self.path.name == block.archive else None
        return block.archive if block.archive and (self.path / block.archive).is_file() else None

    def classes(self) -> list[str]:
        return self.card.classes

    def split_info(self, name: str, tracker: ChangeTracker) -> Split:
        block, archive = self._blocks[name]
        tree = FolderTree(self.path if self.path.is_dir() else self.path.parent)
        plain_files = [self._plain_file(file) or file for file in _names(block)]
        files = [archive] if archive else plain_files
        digests = tracker.digests(tree, files)
        layout = [self.recipe.shape, self.recipe.axes, block.model_dump(mode="json")]
        content = [self.card.classes, *layout, *(digests[file] for file in files)]
        summary = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        count = tracker.checked_count(summary, lambda: len(self.split_listing(name).ids))
        labeled = bool(block.labels or block.label_bytes or "labels" in block.keys)
        return Split(count, labeled, summary)

    def split_listing(self, name: str) -> Listing:
        """Return the images; UsageError for a truncated file or a label without a class."""
        files, labels, rows = self._read_files(name)
        starts = np.cumsum([0, *(file.count for file in files)])
        total = int(starts[-1])
        where = f"{self.path}: split '{name}'"
        if labels is not None and len(labels) != total:
            raise UsageError(f"{where} has {_images_and_labels(total, len(labels))}")
        if rows is None:
            rows = np.arange(total)
        elif len(rows) and (rows.min() < 0 or rows.max() >= total):
            raise UsageError(f"{where} asks for image {rows.max()} of {total:,}")
        if labels is not None:
            labels = labels[rows]
            limit = len(self.card.classes) or MAX_CLASSES
            if labels.min() < 0 or labels.max() >= limit:
                raise UsageError(
                    f"{where} has labels from {labels.min()} to {labels.max()}, "
                    f"outside of 0 to {limit - 1}"
                )
        file_of = np.searchsorted(starts, rows, side="right") - 1
        row_in_file = rows - starts[file_of]
        stems = [_stem(file.name) for file in files]
        ids = [
            f"{stems[file]}/{row}"
            for file, row in zip(file_of.tolist(), row_in_file.tolist(), strict=True)
        ]
        read = partial(self._read_image, files, file_of, row_in_file)
        return Listing(ids, None if labels is None else labels.tolist(), read)

    def _read_files(
        self, name: str
    ) -> tuple[list[RecordFile], numpy.ndarray | None, numpy.ndarray | None]:
        """Return the files of images, the labels of all their images, and the split's rows."""
        block, archive = self._blocks[name]
        contents = self._contents(block, archive)
        length = int(np.prod(self.recipe.shape))
        files, labels = [], []
        for image_name in block.images:
            file_name, content = contents[image_name]
            if block.format == "idx":
                files.append(read_idx(file_name, content, length))
                continue
            read_file = read_raw if block.format == "raw" else read_pickled
            file, file_labels = read_file(file_name, content, length, block)
            files.append(file)
            if file_labels is not None:
                if len(file_labels) != file.count:
                    counts = _images_and_labels(file.count, len(file_labels))
                    raise UsageError(f"{file_name} has {counts}")
                labels.append(file_labels)
        for label_name in block.labels:
            file_name, content = contents[label_name]
            start = read_idx(file_name, content, 1).start if block.format == "idx" else 0
            labels.append(read_bytes(content)[start:])
        joined = np.concatenate(labels).astype(np.int64) - block.first if labels else None
        rows = None
        if block.rows is not None:
            file_name, content = contents[block.rows]
            rows = read_row_numbers(file_name, content, block.rows_line)
        return files, joined, rows

    def _contents(self, block: Block, archive: str | None) -> dict[str, tuple[str, Path | bytes]]:
        """Return for each name (its name in messages, its path or its unpacked bytes)."""
        if archive is not None:
            path = self.path if self.path.is_file() else self.path / archive
            members = extract(path, _names(block), self.recipe.roots)
            return {name: (f"{path}/{name}", data) for name, data in members.items()}
        contents: dict[str, tuple[str, Path | bytes]] = {}
        for name in _names(block):
            plain = self._plain_file(name)
            if plain is None:
                raise UsageError(f"{self.path}: {name} no longer exists")
            path = self.path / plain
            contents[name] = (str(path), gunzip(path) if plain.endswith(".gz") else path)
        return contents

    def _read_image(
        self,
        files: Sequence[RecordFile],
        file_of: numpy.ndarray,
        row_in_file: numpy.ndarray,
        row: int,
    ) -> numpy.ndarray:
        """Return an image as (H, W, 3) uint8; gray images have three equal channels."""
        record = files[file_of[row]].read(int(row_in_file[row])).reshape(self.recipe.shape)
        axes = self.recipe.axes
        image = record.transpose([axes.index(side) for side in "HWC" if side in axes])
        if image.ndim == 2 or image.shape[2] == 1:
            return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        return np.ascontiguousarray(image)


def _names(block: Block) -> list[str]:
    return [*block.images, *block.labels, *([block.rows] if block.rows else [])]


def _images_and_labels(images: int, labels: int) -> str:
    return f"{plural(images, 'image')} and {plural(labels, 'label')}"


def _stem(name: str) -> str:
    return Path(name.removesuffix(".gz")).name.removesuffix(".bin")
