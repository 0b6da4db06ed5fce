"""Helpers of the tests of readers: images to write, sets opened by their cards, and pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.datasets.conftest import encode, picture
from transfer.datasets.cards import Card, load_card
from transfer.datasets.packed.decode import decode
from transfer.datasets.reader_factory import make_source
from transfer.datasets.readers.base import Listing, Source, Survey
from transfer.utils.stamp_cache import StampCache


def noise(count: int, side: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """(count, side, side, channels) uint8 without two equal rows or columns."""
    return np.random.default_rng(seed).integers(
        0, 256, (count, side, side, channels), dtype=np.uint8
    )


def jpegs(folder: Path, *names: str) -> dict[str, bytes]:
    """Write a different picture under each name; return their bytes."""
    written = {}
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written[name] = encode(picture(number + sum(map(ord, name)) % 1000), "JPEG")
        path.write_bytes(written[name])
    return written


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def damaged_everywhere(
    whole: bytes, refusals: type[Exception], read: Callable[[bytes], object]
) -> int:
    """Count the copies of `whole` that `read` refuses, of 2,000 with one byte changed each.

    Any other error is raised.
    """
    draw, refused = np.random.default_rng(0), 0
    for _ in range(2000):
        damaged = bytearray(whole)
        damaged[draw.integers(len(whole))] = draw.integers(256)
        try:
            read(bytes(damaged))
        except refusals:
            refused += 1
    return refused


class Opened:
    """A set as a single command opens it."""

    def __init__(self, card: Card, place: Path, memory: Path):
        self.source: Source = make_source(card.reader, place, card=card)
        self.survey: Survey = self.source.survey(StampCache(memory))

    def listing(self, split: str) -> Listing:
        """The images of a split, checked against the survey."""
        listing = self.source.listing(split)
        facts = self.survey.splits[split]
        assert len(listing.ids) == len(set(listing.ids)) == facts.count
        assert (listing.labels is not None) == facts.labeled
        assert listing.labels is None or len(listing.labels) == facts.count
        return listing

    def prints(self) -> dict[str, str]:
        return {split: facts.fingerprint for split, facts in self.survey.splits.items()}


def opened(name: str, place: Path, memory: Path | None = None, **changes: Any) -> Opened:
    """The shipped card `name` over the files at `place`."""
    card, _ = load_card(name)
    return Opened(card.model_copy(update=changes), place, memory or place.parent / "memory")


def pixels(listing: Listing, row: int) -> np.ndarray:
    data = listing.read(row)
    return decode(data) if isinstance(data, bytes) else data
