"""Reader `tar`: WebDataset shards: files with one name and several suffixes are a sample.

The path is a pattern (`shards/train-{000..146}.tar`, `shards/*.tar`), one file, or a folder.
A sample has one image (jpg, png, webp, tif, ...) and, in a labeled dataset, `cls` (a number or a
name as text) or `json` with a field `label`.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transfer.datasets.card_schema import Tar
from transfer.datasets.readers.archive_index import MemberLocation
from transfer.datasets.readers.archive_tree import read_member
from transfer.datasets.readers.base import MAX_CLASSES, SPLIT_NAMES, Listing, Split, Survey
from transfer.datasets.readers.read_errors import report_errors
from transfer.datasets.readers.shard_patterns import expand
from transfer.datasets.readers.shard_samples import index_samples
from transfer.errors import UsageError
from transfer.utils.files import file_stamp, hash_file
from transfer.utils.formatting import fault_list, plural
from transfer.utils.progress import Progress
from transfer.utils.stamp_cache import StampCache, settled_stamp

if TYPE_CHECKING:
    from transfer.datasets.cards import Card


class Sample(NamedTuple):
    """A sample of a split: its id, where its image lies, and its label, if any."""

    id: str
    shard: Path
    location: MemberLocation
    label: int | str | None


class TarSource:
    """Images whose ids are their shard and their sample's name: train-000/n01440764_10026.

    Each shard is indexed once; the index is kept as long as the shard's stamp stays the same.
    """

    def __init__(self, path: Path, card: Card | None = None):
        self.path, self.card = path, card
        self.recipe = (card and card.tar) or Tar()
        self._memory: StampCache | None = None

    def survey(self, memory: StampCache) -> Survey:
        """Return splits and classes; the fingerprint covers the shards' bytes and names."""
        self._memory = memory
        changes: list[str] = []
        shards = self._shards()
        indexes = self._indexes(shards, changes)
        samples = {split: self._samples(names, indexes) for split, names in shards.items()}
        classes = self._classes(samples)
        splits = {}
        for split, members in samples.items():
            labeled = self._labels(split, members, classes) is not None
            digests = [[shard.name, indexes[shard]["digest"]] for shard in shards[split]]
            content = [classes if labeled else None, self.recipe.image, self.recipe.label, *digests]
            summary = hashlib.sha256(json.dumps(content).encode()).hexdigest()
            splits[split] = Split(len(members), labeled, summary)
        return Survey(splits, classes, self.card.size if self.card else None, changes)

    def listing(self, split: str) -> Listing:
        """Return the images of a split, in the order of its shards."""
        shards = self._shards()
        if split not in shards:
            raise UsageError(f"{self.path}: split '{split}' no longer exists")
        indexes = self._indexes(shards, [])
        samples = {name: self._samples(paths, indexes) for name, paths in shards.items()}
        members = samples[split]
        labels = self._labels(split, members, self._classes(samples))
        return Listing([sample.id for sample in members], labels, partial(_read_image, members))

    def _shards(self) -> dict[str, list[Path]]:
        """Return the shards of each split."""
        if self.recipe.splits:
            patterns = self.recipe.splits.items()
            return {split: expand(self.path / pattern) for split, pattern in patterns}
        if not self.path.is_dir():
            return {"all": expand(self.path)}
        flat = sorted(self.path.glob("*.tar"))
        folders = {split: sorted((self.path / split).glob("*.tar")) for split in SPLIT_NAMES}
        if any(folders.values()):
            if flat:
                raise UsageError(
                    f"{self.path} holds both shards ({flat[0].name}, ...) and folders of splits"
                )
            return {split: paths for split, paths in folders.items() if paths}
        if not flat:
            raise UsageError(f"{self.path} holds no tar shards")
        named = {
            split: [path for path in flat if re.match(rf"{split}[-_.\d]", path.name)]
            for split in SPLIT_NAMES
        }
        if sum(map(len, named.values())) == len(flat):
            return {split: paths for split, paths in named.items() if paths}
        return {"all": flat}

    def _indexes(
        self, shards: dict[str, list[Path]], changes: list[str]
    ) -> dict[Path, dict[str, Any]]:
        """Return stamp, digest and samples of each shard; shards with a known stamp are not read.

        Args:
            shards: the shards of each split.
            changes: shards that have changed are added to it.
        """
        indexes: dict[Path, dict[str, Any]] = {}
        fresh: dict[Path, list[int]] = {}
        options = [self.recipe.image, self.recipe.label]
        for shard in chain.from_iterable(shards.values()):
            with report_errors(shard):
                now = file_stamp(shard)
            known = self._memory.recall(shard) if self._memory else {}
            if known.get("stamp") == now and known.get("options") == options:
                indexes[shard] = known
            else:
                fresh[shard] = now
        with Progress(f"reading {self.path}", len(fresh), "shards") as progress:
            for shard, now in fresh.items():
                before = self._memory.recall(shard).get("digest") if self._memory else None
                samples = index_samples(shard, self.recipe)
                digest = hash_file(shard)[0]
                facts = {
                    "stamp": settled_stamp(now),
                    "options": options,
                    "digest": digest,
                    "samples": samples,
                }
                if before not in (None, digest):
                    changes.append(f"{shard.name} has changed")
                if self._memory:
                    self._memory.keep(shard, facts)
                indexes[shard] = facts
                progress.advance(1)
        return indexes

    def _samples(self, shards: list[Path], indexes: dict[Path, dict[str, Any]]) -> list[Sample]:
        """Return the samples of a split; UsageError for repeated ids or partly missing labels."""
        samples = [
            Sample(f"{shard.name.removesuffix('.tar')}/{key}", shard, MemberLocation(*place), label)
            for shard in shards
            for key, *place, label in indexes[shard]["samples"]
        ]
        if not samples:
            more = f" and {plural(len(shards) - 1, 'more shard')}" if len(shards) > 1 else ""
            raise UsageError(f"{shards[0]}{more}: no images")
        unlabeled = [sample.id for sample in samples if sample.label is None]
        if unlabeled and len(unlabeled) < len(samples):
            count = f"{len(unlabeled)} of {len(samples)} samples"
            raise UsageError(f"{self.path}: {count} have no label:{fault_list(unlabeled)}")
        if len({sample.id for sample in samples}) < len(samples):
            raise UsageError(f"{self.path} has shards of the same name in several folders")
        return samples

    def _classes(self, samples: dict[str, list[Sample]]) -> list[str]:
        """Return the card's classes, else the sorted names that are labels; [] for numbers."""
        if self.card is not None and self.card.classes:
            return self.card.classes
        every_sample = chain.from_iterable(samples.values())
        return sorted({sample.label for sample in every_sample if isinstance(sample.label, str)})

    def _labels(self, split: str, samples: list[Sample], classes: list[str]) -> list[int] | None:
        """Return the labels; UsageError for one outside of the classes, or for mixed types."""
        if samples[0].label is None:
            return None
        label_of = {name: label for label, name in enumerate(classes)}
        limit = len(classes) or MAX_CLASSES
        mixed = len({type(sample.label) for sample in samples}) > 1
        labels, faults = [], []
        for sample in samples:
            name = sample.label
            label = label_of.get(name, -1) if isinstance(name, str) else int(name or 0)
            if mixed or not 0 <= label < limit:
                faults.append(f"{sample.id}: {name!r}")
            labels.append(label)
        if faults:
            problem = "mix names and numbers" if mixed else f"are none of the {limit} classes"
            raise UsageError(
                f"{self.path}: labels of split '{split}' {problem}:{fault_list(faults)}"
            )
        return labels


def _read_image(samples: list[Sample], row: int) -> bytes:
    return read_member(samples[row].shard, samples[row].location)
