"""Reader `records`: images of one size in a few large files of pixels, such as STL-10, CIFAR and Fashion-MNIST."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.datasets.card_schema import Block, Records
from transfer.datasets.readers.base import Listing, Split
from transfer.datasets.readers.card_reader import CardSource, ChangeTracker
from transfer.datasets.readers.file_tree import FolderTree
from transfer.datasets.readers.record_formats import (
    Pixels,
    first_file,
    from_archive,
    idx_file,
    pickled_file,
    raw_file,
    unpacked,
)
from transfer.errors import UsageError
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.datasets.cards import Card

MAX_CLASSES = 1_000_000


class RecordsSource(CardSource):
    """An image goes by its file and its row there: train_X/17. Plain files are read row by row, never whole."""

    def __init__(self, card: Card, place: Path):
        super().__init__(card, place)
        assert card.records is not None
        self.recipe: Records = card.records
        self._blocks: dict[
            str, tuple[Block, str | None]
        ] = {}  # split -> how it lies there, and in which archive

    def find(self) -> dict[str, str]:
        missing, self._blocks = {}, {}
        for split, blocks in self.recipe.splits.items():
            lacks = [self._lacks(block) for block in blocks]
            chosen: tuple[Block, str | None] | None = None
            if "" in lacks:
                chosen = blocks[lacks.index("")], None
            elif found := next(
                ((block, file) for block in blocks if (file := self._archive(block))), None
            ):
                chosen = found
            if chosen:
                self._blocks[split] = chosen
            missing[split] = (
                "" if chosen else f"{self.place} has no {', nor '.join(dict.fromkeys(lacks))}"
            )
        return missing

    def _lacks(self, block: Block) -> str:
        """What of a block is missing as a plain file."""
        return next((name for name in _names(block) if not self._plain(name)), "")

    def _plain(self, name: str) -> str | None:
        return first_file(self.place, name, self.recipe.roots) if self.place.is_dir() else None

    def _archive(self, block: Block) -> str | None:
        if not self.place.is_dir():
            return self.place.name if self.place.name == block.archive else None
        return block.archive if block.archive and (self.place / block.archive).is_file() else None

    def classes(self) -> list[str]:
        return self.card.classes

    def facts(self, name: str, look: ChangeTracker) -> Split:
        block, archive = self._blocks[name]
        tree = FolderTree(self.place if self.place.is_dir() else self.place.parent)
        files = [archive] if archive else [self._plain(one) or one for one in _names(block)]
        told = [
            self.card.classes,
            self.recipe.shape,
            self.recipe.axes,
            block.model_dump(mode="json"),
        ]
        digests = look.digests(tree, files)
        summary = hashlib.sha256(
            json.dumps([*told, *(digests[file] for file in files)]).encode()
        ).hexdigest()
        count = look.checked(summary, lambda: len(self.images(name).ids))
        return Split(count, _labeled(block), summary)

    def images(self, name: str) -> Listing:
        """All of the files is checked: UsageError where one has been cut, or holds a label that is no class."""
        parts, labels, rows = self._read_files(name)
        starts = np.cumsum([0, *(part.count for part in parts)])
        total = int(starts[-1])
        if labels is not None and len(labels) != total:
            raise UsageError(
                f"{self.place}: split '{name}' has {total:,} images and {len(labels):,} labels"
            )
        if rows is None:
            rows = np.arange(total)
        elif len(rows) and (rows.min() < 0 or rows.max() >= total):
            raise UsageError(
                f"{self.place}: split '{name}' asks for image {rows.max()} of {total:,}"
            )
        if labels is not None:
            limit = len(self.card.classes) or MAX_CLASSES
            labels = labels[rows]
            if labels.min() < 0 or labels.max() >= limit:
                raise UsageError(
                    f"{self.place}: labels of split '{name}' go from {labels.min()} to {labels.max()}, "
                    f"outside of 0 to {limit - 1}"
                )
        of = np.searchsorted(starts, rows, side="right") - 1
        stems = [Path(part.name.removesuffix(".gz")).name for part in parts]
        stems = [stem.removesuffix(".bin") for stem in stems]
        ids = [
            f"{stems[part]}/{row}"
            for part, row in zip(of.tolist(), (rows - starts[of]).tolist(), strict=True)
        ]
        read = partial(self._read, parts, of, rows - starts[of])
        return Listing(ids, None if labels is None else labels.tolist(), read)

    def _read_files(
        self, name: str
    ) -> tuple[list[Pixels], numpy.ndarray | None, numpy.ndarray | None]:
        """The files of images, the labels of all, and the rows that the split has of them."""
        block, archive = self._blocks[name]
        contents = self._contents(block, archive)
        length = int(np.prod(self.recipe.shape))
        parts, labels = [], []
        for one in block.images:
            shown, content = contents[one]
            if block.format == "idx":
                parts.append(idx_file(shown, content, length))
                continue
            reader = raw_file if block.format == "raw" else pickled_file
            pixels, found = reader(shown, content, length, block)
            parts.append(pixels)
            if found is not None:
                if len(found) != pixels.count:
                    raise UsageError(
                        f"{shown} has {pixels.count:,} images and {len(found):,} labels"
                    )
                labels.append(found)
        for one in block.labels:
            shown, content = contents[one]
            if block.format == "idx":
                found = idx_file(shown, content, 1)
                labels.append(_bytes(content)[found.start :])
            else:
                labels.append(_bytes(content))
        joined = np.concatenate(labels).astype(np.int64) - block.first if labels else None
        rows = None
        if block.rows is not None:
            shown, content = contents[block.rows]
            rows = _rows(shown, _bytes(content).tobytes(), block.rows_line)
        return parts, joined, rows

    def _contents(self, block: Block, archive: str | None) -> dict[str, tuple[str, Path | bytes]]:
        """Name -> (how to call it, its path or, where it was packed, its bytes)."""
        if archive is not None:
            path = self.place if self.place.is_file() else self.place / archive
            found = from_archive(path, _names(block), self.recipe.roots)
            return {name: (f"{path}/{name}", data) for name, data in found.items()}
        contents: dict[str, tuple[str, Path | bytes]] = {}
        for name in _names(block):
            plain = self._plain(name)
            if plain is None:
                raise UsageError(f"{self.place} has no {name} any more")
            path = self.place / plain
            contents[name] = (str(path), unpacked(path) if plain.endswith(".gz") else path)
        return contents

    def _read(
        self, parts: Sequence[Pixels], of: numpy.ndarray, rows: numpy.ndarray, row: int
    ) -> numpy.ndarray:
        pixels = parts[of[row]].read(int(rows[row])).reshape(self.recipe.shape)
        image = pixels.transpose(
            [self.recipe.axes.index(side) for side in "HWC" if side in self.recipe.axes]
        )
        gray = image.ndim == 2 or image.shape[2] == 1
        return (
            np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
            if gray
            else np.ascontiguousarray(image)
        )


def _names(block: Block) -> list[str]:
    return [*block.images, *block.labels, *([block.rows] if block.rows else [])]


def _labeled(block: Block) -> bool:
    return bool(block.labels or block.label_bytes or "labels" in block.keys)


def _bytes(content: Path | bytes) -> numpy.ndarray:
    return np.frombuffer(
        content.read_bytes() if isinstance(content, Path) else content, dtype=np.uint8
    )


def _rows(name: str, text: bytes, line: int) -> numpy.ndarray:
    """The numbers in one line of a text file, each once."""
    lines = text.decode("ascii", "replace").splitlines()
    try:
        rows = np.array([int(word) for word in lines[line].split()], dtype=np.int64)
    except (IndexError, ValueError, OverflowError) as error:
        raise UsageError(f"{name}: line {line + 1} is not a list of rows ({error})") from error
    if not len(rows) or len(np.unique(rows)) != len(rows):
        raise UsageError(
            f"{name}: line {line + 1} names {'a row twice' if len(rows) else 'no rows'}"
        )
    return rows
