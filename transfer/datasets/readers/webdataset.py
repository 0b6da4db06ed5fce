"""Reader `tar`: WebDataset shards, read as they are: files of one name and several suffixes are one sample.

`shards/train-{000..146}.tar`, `shards/*.tar`, one file, or a folder of them. A sample has one picture (jpg, jpeg, png,
webp) and, where the set has labels, `cls` (a number or a name as text) or `json` with a field `label`.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.datasets.card_schema import Tar
from transfer.datasets.readers.archive_tree import MemberPlace, read_place, tar_index
from transfer.datasets.readers.base import Listing, Split, Survey
from transfer.datasets.readers.member_names import SUFFIXES, is_hidden
from transfer.datasets.readers.shard_patterns import expand
from transfer.errors import UsageError
from transfer.utils.files import file_stamp, hash_file
from transfer.utils.formatting import fault_list
from transfer.utils.progress import Progress
from transfer.utils.stamp_cache import StampCache, settled_stamp

if TYPE_CHECKING:
    from transfer.datasets.cards import Card

NAMED_SPLITS = ("unlabeled", "train", "val", "test")
MAX_CLASSES = 1_000_000
MAX_LABEL_BYTES = 1 << 20


class TarSource:
    """An image goes by its shard and its sample's name: train-000/n01440764_10026.

    Each shard is indexed once and its index is remembered for as long as its stamp stays the same.
    """

    def __init__(self, place: Path, card: Card | None = None):
        self.place, self.card = place, card
        self.recipe = (card and card.tar) or Tar()
        self._memory: StampCache | None = None

    def survey(self, memory: StampCache) -> Survey:
        """Splits and classes; the fingerprint is of the shards' bytes and what they are called."""
        self._memory = memory
        changes: list[str] = []
        shards = self._shards()
        indexes = self._indexes([shard for some in shards.values() for shard in some], changes)
        samples = {split: self._samples(some, indexes) for split, some in shards.items()}
        classes = self._classes(samples)
        splits = {}
        for split, some in shards.items():
            self._labels(split, samples[split], classes)
            labeled = samples[split][0][3] is not None
            told = [classes if labeled else None, self.recipe.image, self.recipe.label]
            told += [[shard.name, indexes[shard]["digest"]] for shard in some]
            summary = hashlib.sha256(json.dumps(told).encode()).hexdigest()
            splits[split] = Split(len(samples[split]), labeled, summary)
        return Survey(splits, classes, self.card.size if self.card else None, changes)

    def listing(self, split: str) -> Listing:
        shards = self._shards()
        if split not in shards:
            raise UsageError(f"{self.place} has no split '{split}' any more")
        indexes = self._indexes([shard for some in shards.values() for shard in some], [])
        samples = {name: self._samples(some, indexes) for name, some in shards.items()}
        found = samples[split]
        labels = self._labels(split, found, self._classes(samples))
        return Listing(
            [key for key, _, _, _ in found], labels, partial(_read, [one[1:3] for one in found])
        )

    # Shards

    def _shards(self) -> dict[str, list[Path]]:
        """Split -> its shards."""
        if self.recipe.splits:
            return {
                split: expand(self.place / pattern) for split, pattern in self.recipe.splits.items()
            }
        if not self.place.is_dir():
            return {"all": expand(self.place)}
        found = {split: sorted((self.place / split).glob("*.tar")) for split in NAMED_SPLITS}
        flat = sorted(self.place.glob("*.tar"))
        if any(found.values()):
            if flat:
                raise UsageError(
                    f"{self.place} holds both shards ({flat[0].name}, ...) and folders of splits"
                )
            return {split: some for split, some in found.items() if some}
        if not flat:
            raise UsageError(f"{self.place} holds no tar shards")
        named = {
            split: [one for one in flat if re.match(rf"{split}[-_.\d]", one.name)]
            for split in NAMED_SPLITS
        }
        if sum(map(len, named.values())) == len(flat):
            return {split: some for split, some in named.items() if some}
        return {"all": flat}

    def _indexes(self, shards: list[Path], changes: list[str]) -> dict[Path, dict[str, Any]]:
        """Shard -> its stamp, digest and samples; those whose stamp is known are not read again."""
        found: dict[Path, dict[str, Any]] = {}
        fresh: dict[Path, list[int]] = {}
        options = [self.recipe.image, self.recipe.label]
        for shard in shards:
            try:
                now = file_stamp(shard)
            except OSError as error:
                raise UsageError(f"{shard} cannot be read ({error.strerror})") from error
            known = self._memory.recall(shard) if self._memory else {}
            if known.get("stamp") == now and known.get("options") == options:
                found[shard] = known
            else:
                fresh[shard] = now
        with Progress(f"reading {self.place}", len(fresh), "shards") as progress:
            for shard, now in fresh.items():
                before = self._memory.recall(shard).get("digest") if self._memory else None
                facts = {"stamp": settled_stamp(now), "options": options, **self._look(shard)}
                if before not in (None, facts["digest"]):
                    changes.append(f"{shard.name} is another")
                if self._memory:
                    self._memory.keep(shard, facts)
                found[shard] = facts
                progress.advance(1)
        return found

    def _look(self, shard: Path) -> dict[str, Any]:
        samples: dict[str, dict[str, MemberPlace]] = {}
        for name, place in tar_index(shard).items():
            if is_hidden(name):
                continue
            folder, slash, base = name.rpartition("/")
            key, _, suffix = base.partition(".")
            samples.setdefault(folder + slash + key, {})[suffix.lower()] = place
        found, faults = [], []
        for key, files in samples.items():
            try:
                picture = self._picture(files)
                if picture is not None:
                    found.append([key, picture.start, picture.size, self._label(shard, files)])
            except ValueError as error:
                faults.append(f"{key}: {error}")
        if faults:
            raise UsageError(
                f"{len(faults)} samples of {shard} cannot be used:{fault_list(faults)}"
            )
        return {"digest": hash_file(shard)[0], "samples": found}

    def _picture(self, files: dict[str, MemberPlace]) -> MemberPlace | None:
        """The picture of a sample; None for files that belong to no picture, such as a read-me."""
        wanted = [self.recipe.image] if self.recipe.image else [suffix[1:] for suffix in SUFFIXES]
        found = [suffix for suffix in wanted if suffix in files]
        if len(found) > 1:
            raise ValueError(
                f"it has {' and '.join(found)}: a card's `tar: {{image: {found[0]}}}` would say which"
            )
        if not found and self._label_suffix(files) is not None:
            raise ValueError("it has a label and no picture")
        return files[found[0]] if found else None

    def _label_suffix(self, files: dict[str, MemberPlace]) -> str | None:
        wanted = (self.recipe.label or "").partition(":")[0]
        return next(
            (suffix for suffix in ([wanted] if wanted else ["cls", "json"]) if suffix in files),
            None,
        )

    def _label(self, shard: Path, files: dict[str, MemberPlace]) -> int | str | None:
        suffix = self._label_suffix(files)
        if suffix is None:
            return None
        if files[suffix].size > MAX_LABEL_BYTES:
            raise ValueError(f"its {suffix} is too large for a label")
        text = read_place(shard, files[suffix]).decode("utf-8").strip()
        if suffix == "json":
            field = (self.recipe.label or "json:label").partition(":")[2] or "label"
            try:
                value = json.loads(text)
            except RecursionError as error:
                raise ValueError("its json is nested too deeply") from error
            value = value.get(field) if isinstance(value, dict) else None
            if value is None and self.recipe.label:
                raise ValueError(f"its json has no field '{field}'")
            if value is not None and type(value) not in (int, str):
                raise ValueError(f"its label is neither a whole number nor a name: {value!r}")
            return value
        return int(text) if re.fullmatch(r"[+-]?\d{1,9}", text) else text

    # Samples

    def _samples(self, shards: list[Path], indexes: dict[Path, dict[str, Any]]) -> list[tuple]:
        """(id, shard, place, label) of every sample; UsageError where ids repeat or only some have labels."""
        found = [
            (f"{shard.name.removesuffix('.tar')}/{key}", shard, MemberPlace(start, size), label)
            for shard in shards
            for key, start, size, label in indexes[shard]["samples"]
        ]
        if not found:
            raise UsageError(f"{shards[0]} and {len(shards) - 1} more shards hold no pictures")
        without = [one[0] for one in found if one[3] is None]
        if without and len(without) < len(found):
            raise UsageError(
                f"{len(without)} of {len(found)} samples of {self.place} have no label:{fault_list(without)}"
            )
        if len({one[0] for one in found}) < len(found):
            raise UsageError(f"{self.place} has shards of one name in several folders")
        return found

    def _classes(self, samples: dict[str, list[tuple]]) -> list[str]:
        """Names of the classes: the card's, or those that are labels, sorted; none where labels are numbers."""
        if self.card is not None and self.card.classes:
            return self.card.classes
        return sorted(
            {one[3] for some in samples.values() for one in some if isinstance(one[3], str)}
        )

    def _labels(self, split: str, found: list[tuple], classes: list[str]) -> list[int] | None:
        if found[0][3] is None:
            return None
        number = {name: label for label, name in enumerate(classes)}
        labels = [number.get(one[3], -1) if isinstance(one[3], str) else one[3] for one in found]
        limit = len(classes) or MAX_CLASSES
        mixed = len({type(one[3]) for one in found}) > 1
        if faults := [
            f"{one[0]}: {one[3]!r}"
            for one, label in zip(found, labels, strict=True)
            if mixed or not 0 <= label < limit
        ]:
            what = "are names and numbers mixed" if mixed else f"are none of the {limit} classes"
            raise UsageError(
                f"labels of {self.place}, split '{split}', {what}:{fault_list(faults)}"
            )
        return labels


def _read(places: list[tuple[Path, MemberPlace]], row: int) -> bytes:
    return read_place(*places[row])
