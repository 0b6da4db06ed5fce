"""Image sets: those that pipeline files name, their surveys, and the plans to pack them."""

from __future__ import annotations

import os
from pathlib import Path

from transfer.datasets.cards import Card, find_place, load_card
from transfer.datasets.origin import Origin
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers.base import DEFAULT_SIZE, Split, Survey
from transfer.datasets.readers.shard_patterns import is_pattern, matches_any
from transfer.datasets.spec import SIZES, ImageSpec
from transfer.datasets.split_changes import record_changes
from transfer.errors import UsageError, did_you_mean
from transfer.utils.formatting import plural
from transfer.utils.stamp_cache import StampCache


class ImageSets:
    """The image sets that pipeline files name; each is surveyed once."""

    def __init__(self, memory: Path, base_dir: Path):
        """`memory` is the folder that keeps surveys; relative paths start at `base_dir`."""
        self._memory, self._base_dir = memory, base_dir
        self._surveys: dict[tuple[str, str, bool, str, bool], Survey] = {}
        self._cards: dict[str, tuple[Card, Path]] = {}

    def locate(self, spec: ImageSpec) -> tuple[Origin, int | None]:
        """Return where `spec` comes from, and the side of its images in px, if its card has one."""
        skip = spec.on_bad_image == "skip"
        for reader in ("folder", "hdf5", "tar"):
            if getattr(spec, reader):
                place = self._absolute(spec.location)
                return Origin(reader, place, spec.labels, skip=skip), None
        if spec.location not in self._cards:
            self._cards[spec.location] = load_card(spec.location, self._base_dir)
        card, file = self._cards[spec.location]
        if card.reader == "drawings":
            return Origin("drawings", "drawings"), card.size
        if card.is_layout:
            raise UsageError(
                f"'{card.name}' is a layout, not a set: write `data: {{{card.reader}: PATH}}`"
            )
        if spec.path:
            place = self._absolute(spec.path)
        else:
            place = str(find_place(card, file, self._base_dir))
        return Origin(card.reader, place, card=card, skip=skip), card.size

    def is_missing(self, spec: ImageSpec) -> bool:
        """Return whether nothing is where the set should be; False for a set with a fault."""
        origin, _ = self.locate(spec)
        if origin.reader == "drawings":
            return False
        if origin.reader == "tar" and is_pattern(origin.location):
            return not matches_any(Path(origin.location))
        try:
            os.lstat(origin.location)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # such as a folder that nobody may look into
            return False
        return False

    def survey(self, spec: ImageSpec) -> Survey:
        """Return what is known of the set before it is decoded; UsageError if it is missing."""
        origin, _ = self.locate(spec)
        key = (origin.reader, origin.location, spec.labels, spec.card or "", origin.skip)
        if key not in self._surveys:
            self._surveys[key] = origin.open().survey(StampCache(self._memory))
        return self._surveys[key]

    def pack(self, spec: ImageSpec, requested: str, labeled: bool) -> Pack:
        """Plan the packing of a split; UsageError if the set cannot provide it.

        Args:
            spec: `data:` of the pipeline file.
            requested: the split that the stage reads, unless `spec` names another.
            labeled: whether the stage needs labels.
        """
        origin, card_size = self.locate(spec)
        survey = self.survey(spec)
        try:
            named = spec.split.get(requested) if isinstance(spec.split, dict) else spec.split
            split = survey.resolve_split(named or requested, named is not None, labeled)
        except UsageError as error:
            raise UsageError(f"image set '{spec.location}' {error}") from error
        facts = survey.splits[split]
        record_changes(StampCache(self._memory), origin, survey, split)
        self._check_split(spec, split, facts, labeled)
        unknown = [name for name in spec.classes or () if name not in survey.classes]
        if unknown and survey.classes:
            hint = did_you_mean(unknown[0], survey.classes)
            raise UsageError(f"image set '{spec.location}' has no class '{unknown[0]}'{hint}")
        size = spec.size or card_size or survey.size or DEFAULT_SIZE
        if not SIZES[0] <= size <= SIZES[1]:
            raise UsageError(
                f"image set '{spec.location}' has images of {size} px: "
                f"set `size:`, {SIZES[0]} to {SIZES[1]}"
            )
        return Pack(
            spec=spec,
            split=split,
            size=size,
            origin=origin,
            facts=facts,
            classes=survey.classes,
            memory=self._memory,
        )

    def _check_split(self, spec: ImageSpec, split: str, facts: Split, labeled: bool) -> None:
        where = f"image set '{spec.location}', split '{split}',"
        if not facts.count:
            raise UsageError(f"{where} holds no images")
        if facts.unreadable == facts.count:
            count = plural(facts.count, "image")
            reasons = facts.left_out.reasons
            raise UsageError(f"{where} holds {count}, and none can be read: {reasons}")
        if labeled and not facts.labeled:
            hint = f"; {facts.hint}" if facts.hint else ""
            raise UsageError(f"{where} has no labels, and this stage needs them{hint}")
        if (spec.classes or spec.per_class) and not facts.labeled:
            raise UsageError(f"{where} has no labels: `classes` and `per_class` need them")

    def _absolute(self, path: str) -> str:
        return os.path.abspath(self._base_dir / os.path.expanduser(path))
