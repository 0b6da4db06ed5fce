"""Image sets: finds those that pipeline files name, and plans their packing."""

from __future__ import annotations

import os
from pathlib import Path

from transfer.datasets.cards import Card, find_place, load_card
from transfer.datasets.origin import Origin
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers.base import DEFAULT_SIZE, Survey
from transfer.datasets.spec import SIZES, ImageSpec
from transfer.errors import UsageError
from transfer.utils.stamp_cache import StampCache


class ImageSets:
    """Finds the sets that pipeline files name; looks at each once."""

    def __init__(self, memory: Path, beside: Path):
        """`memory` is the folder where surveys are remembered; relative paths start at `beside`."""
        self._memory, self._beside = memory, beside
        self._seen: dict[tuple[str, str, bool, str], Survey] = {}
        self._cards: dict[str, tuple[Card, Path]] = {}

    def locate(self, spec: ImageSpec) -> tuple[Origin, int | None]:
        """Where `spec` comes from, and the side of its images in px or None."""
        for reader in ("folder", "hdf5", "tar"):
            if getattr(spec, reader):
                return Origin(reader, self._path(spec.location, self._beside), spec.labels), None
        if spec.location not in self._cards:
            self._cards[spec.location] = load_card(spec.location, self._beside)
        card, file = self._cards[spec.location]
        if card.reader == "drawings":
            return Origin("drawings", "drawings"), card.size
        if card.is_layout:
            raise UsageError(
                f"'{card.name}' is a layout, not a set: write `data: {{{card.reader}: PATH}}`"
            )
        place = (
            self._path(spec.path, self._beside)
            if spec.path
            else str(find_place(card, file, self._beside))
        )
        return Origin(card.reader, place, card=card), card.size

    def survey(self, spec: ImageSpec) -> Survey:
        """What is there; UsageError where nothing is."""
        origin, _ = self.locate(spec)
        seen = (origin.reader, origin.location, spec.labels, spec.card or "")
        if seen not in self._seen:
            self._seen[seen] = origin.open().survey(StampCache(self._memory))
        return self._seen[seen]

    def pack(self, spec: ImageSpec, wanted: str, labeled: bool) -> Pack:
        """The stage that packs the split of `spec` that a stage asks for; UsageError where there is none."""
        origin, own_size = self.locate(spec)
        survey = self.survey(spec)
        try:
            named = spec.split.get(wanted) if isinstance(spec.split, dict) else spec.split
            split = survey.resolve_split(named or wanted, named is not None, labeled)
        except UsageError as error:
            raise UsageError(f"image set '{spec.location}' {error}") from error
        facts = survey.splits[split]
        if not facts.count:
            raise UsageError(f"image set '{spec.location}', split '{split}', holds no images")
        if labeled and not facts.labeled:
            raise UsageError(
                f"image set '{spec.location}', split '{split}', has no labels, and this stage needs them"
            )
        if (spec.classes or spec.per_class) and not facts.labeled:
            raise UsageError(
                f"image set '{spec.location}', split '{split}', has no labels: `classes` and `per_class` need them"
            )
        size = spec.size or own_size or survey.size or DEFAULT_SIZE
        if not SIZES[0] <= size <= SIZES[1]:
            raise UsageError(
                f"image set '{spec.location}' has images of {size} px: say `size:`, {SIZES[0]} to {SIZES[1]}"
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

    @staticmethod
    def _path(text: str, start: Path) -> str:
        return str(Path(os.path.abspath(start / os.path.expanduser(text))))
