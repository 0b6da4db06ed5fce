"""What the tests of readers share: images to write, a set opened through its card, and what is read back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.datasets.conftest import encode, picture
from transfer.datasets.cards import Card, load_card
from transfer.datasets.packed.decode import decode
from transfer.datasets.reader_factory import make_source
from transfer.datasets.readers.base import Listing, Source, Survey
from transfer.utils.files import TICK
from transfer.utils.stamp_cache import StampCache


def settle() -> None:
    """Wait until the files are older than the resolution of the file system's clock."""
    time.sleep(2 * TICK / 1e9)


def noise(count: int, side: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """(count, side, side, channels) uint8 of which no row or column is like another."""
    return np.random.default_rng(seed).integers(
        0, 256, (count, side, side, channels), dtype=np.uint8
    )


def jpegs(folder: Path, *names: str) -> dict[str, bytes]:
    """A picture of its own under each name; returns their bytes."""
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
    """How many of 2,000 copies of `whole`, each with a byte changed, `read` refuses; another error goes through."""
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
    """A set as one command sees it."""

    def __init__(self, card: Card, place: Path, memory: Path):
        self.source: Source = make_source(card.reader, place, card=card)
        self.survey: Survey = self.source.survey(StampCache(memory))

    def listing(self, split: str) -> Listing:
        """The images of a split, which must be as many as the survey says."""
        found = self.source.listing(split)
        facts = self.survey.splits[split]
        assert len(found.ids) == len(set(found.ids)) == facts.count
        assert (found.labels is not None) == facts.labeled
        assert found.labels is None or len(found.labels) == facts.count
        return found

    def prints(self) -> dict[str, str]:
        return {split: facts.fingerprint for split, facts in self.survey.splits.items()}


def opened(name: str, place: Path, memory: Path | None = None, **changes: Any) -> Opened:
    """The shipped card `name` over the files at `place`."""
    card, _ = load_card(name)
    return Opened(card.model_copy(update=changes), place, memory or place.parent / "memory")


def pixels(listing: Listing, row: int) -> np.ndarray:
    found = listing.read(row)
    return decode(found) if isinstance(found, bytes) else found
