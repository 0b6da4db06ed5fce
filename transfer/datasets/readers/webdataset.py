"""Reader `tar`: WebDataset shards: files with one name and several suffixes are a sample.

The path is a pattern (`shards/train-{000..146}.tar`, `shards/*.tar`), one file, or a folder.
A sample has one image (jpg, png, webp, tif, ...) and, in a labeled dataset, `cls` (a number or a
name as text) or `json` with a field `label`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transfer.datasets.card_schema import Tar
from transfer.datasets.readers.archive_index import MemberLocation
from transfer.datasets.readers.archive_tree import read_member
from transfer.datasets.readers.base import MAX_CLASSES, Listing, Split, Survey
from transfer.datasets.readers.file_digests import CHANGED
from transfer.datasets.readers.left_out import Entry, LeftOut, lost_classes, refuse_faults
from transfer.datasets.readers.member_names import SUFFIXES
from transfer.datasets.readers.read_errors import report_errors
from transfer.datasets.readers.shard_folder import ShardFolder, shards_in, shards_of_pattern
from transfer.datasets.readers.shard_patterns import expand
from transfer.datasets.readers.shard_samples import ShardIndex, index_samples
from transfer.errors import UsageError
from transfer.utils.files import file_stamp, hash_file
from transfer.utils.formatting import fault_list, plural
from transfer.utils.progress import Progress
from transfer.utils.stamp_cache import StampCache, settled_stamp

if TYPE_CHECKING:
    from transfer.datasets.cards import Card


INDEX_VERSION = 3  # of the kept indexes; raise it when other samples or counts result


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

    def __init__(self, path: Path, card: Card | None = None, skip: bool = False):
        self.path, self.card, self.skip = path, card, skip
        self.recipe = (card and card.tar) or Tar()
        self._memory: StampCache | None = None

    def survey(self, memory: StampCache) -> Survey:
        """Return splits and classes; the fingerprint covers the shards' bytes and names."""
        self._memory = memory
        changes: dict[Path, str] = {}
        folder = self._shards()
        indexes = self._indexes(folder.shards, changes)
        samples = {split: self._samples(names, indexes) for split, names in folder.shards.items()}
        classes = self._classes(samples)
        splits = {}
        for split, members in samples.items():
            shards = folder.shards[split]
            labeled = self._labels(split, members, classes) is not None
            digests = [[shard.name, indexes[shard]["digest"]] for shard in shards]
            content = [classes if labeled else None, self.recipe.image, self.recipe.label, *digests]
            if later := sum(indexes[shard]["later"] for shard in shards):
                content.append(later)  # the same bytes gave fewer images once
            summary = hashlib.sha256(json.dumps(content).encode()).hexdigest()
            left_out = LeftOut.of(folder.others[split])
            for shard in shards:
                left_out.update(LeftOut(**indexes[shard]["left_out"]))
            left_out.lost_classes = self._lost_classes(members, [indexes[s] for s in shards])
            own = [changes[shard] for shard in shards if shard in changes]
            splits[split] = Split(len(members), labeled, summary, left_out, own)
        size = self.card.size if self.card else None
        return Survey(splits, classes, size, list(changes.values()))

    def _lost_classes(self, samples: list[Sample], indexes: list[dict[str, Any]]) -> list[str]:
        """Return the classes of which a split has labels and no image that is read."""
        names = self.card.classes if self.card else []

        def name_of(label: int | str) -> str:
            if isinstance(label, int) and 0 <= label < len(names):
                return names[label]
            return str(label)

        lost: dict[str, list[Entry]] = {}
        for index in indexes:
            for label, reason in index["lost"]:
                lost.setdefault(name_of(label), []).append(("", reason))
        kept = {name_of(sample.label) for sample in samples if sample.label is not None}
        return lost_classes(lost, kept)

    def listing(self, split: str) -> Listing:
        """Return the images of a split, in the order of its shards."""
        shards = self._shards().shards
        if split not in shards:
            raise UsageError(f"{self.path}: split '{split}' no longer exists")
        indexes = self._indexes(shards, {})
        samples = {name: self._samples(paths, indexes) for name, paths in shards.items()}
        members = samples[split]
        labels = self._labels(split, members, self._classes(samples))
        return Listing([sample.id for sample in members], labels, partial(_read_image, members))

    def _shards(self) -> ShardFolder:
        """Return the shards of each split."""
        if self.recipe.splits:
            patterns = self.recipe.splits.items()
            return ShardFolder({split: expand(self.path / pattern) for split, pattern in patterns})
        if not self.path.is_dir():
            return shards_of_pattern(self.path)
        return shards_in(self.path)

    def _indexes(
        self, shards: dict[str, list[Path]], changes: dict[Path, str]
    ) -> dict[Path, dict[str, Any]]:
        """Return stamp, digest and samples of each shard; shards with a known stamp are not read.

        Args:
            shards: the shards of each split.
            changes: shard -> text; shards that have changed are added to it.
        """
        indexes: dict[Path, dict[str, Any]] = {}
        fresh: dict[Path, list[int]] = {}
        # Another format may become readable when a package is installed.
        options = [self.recipe.image, self.recipe.label, self.skip, INDEX_VERSION, list(SUFFIXES)]
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
                index = self._index(shard)
                digest = hash_file(shard)[0]
                facts = {
                    "stamp": settled_stamp(now),
                    "options": options,
                    "digest": digest,
                    "samples": index.samples,
                    "left_out": asdict(LeftOut.of(index.left_out)),
                    "lost": index.lost,
                    "later": index.later,
                }
                if before not in (None, digest):
                    changes[shard] = f"{shard.name} {CHANGED}"
                if self._memory:
                    self._memory.keep(shard, facts)
                indexes[shard] = facts
                progress.advance(1)
        return indexes

    def _index(self, shard: Path) -> ShardIndex:
        """Return what a shard holds; UsageError for faulty samples, which `skip` leaves out."""
        index = index_samples(shard, self.recipe, self.skip)
        if self.skip:
            index.left_out += [(fault, "unusable sample") for fault in index.faults]
        else:
            refuse_faults(shard, "sample", index.faults, "cannot be used")
        return index

    def _samples(self, shards: list[Path], indexes: dict[Path, dict[str, Any]]) -> list[Sample]:
        """Return the samples of a split; UsageError for repeated ids or partly missing labels."""
        samples = [
            Sample(f"{shard.name.removesuffix('.tar')}/{key}", shard, MemberLocation(*place), label)
            for shard in shards
            for key, *place, label in indexes[shard]["samples"]
        ]
        if not samples:
            more = f" and {plural(len(shards) - 1, 'more shard')}" if len(shards) > 1 else ""
            left_out = LeftOut()
            for shard in shards:
                left_out.update(LeftOut(**indexes[shard]["left_out"]))
            held = f"; there are {left_out.contents}" if left_out.counts else ""
            raise UsageError(f"{shards[0]}{more}: no images{held}")
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
