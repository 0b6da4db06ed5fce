"""Small datasets for the tests of readers: images to write, and a set opened by its card."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

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
    """Return (count, side, side, channels) uint8 without equal rows or columns."""
    return np.random.default_rng(seed).integers(
        0, 256, (count, side, side, channels), dtype=np.uint8
    )


def jpegs(folder: Path, *names: str) -> dict[str, bytes]:
    """Write a different image under each name, and return their bytes."""
    written = {}
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written[name] = encode(picture(number + sum(map(ord, name)) % 1000), "JPEG")
        path.write_bytes(written[name])
    return written


def text(path: Path, *lines: str) -> Path:
    """Write a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def count_refused(
    content: bytes, refusals: type[Exception], read: Callable[[bytes], object]
) -> int:
    """Return how many of 2,000 copies, each with a byte changed, raise one of `refusals`.

    Other errors pass through.

    Args:
        content: the bytes of a valid file.
        refusals: the errors that `read` may raise.
        read: called with each damaged copy.
    """
    rng, refused = np.random.default_rng(0), 0
    for _ in range(2000):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        try:
            read(bytes(damaged))
        except refusals:
            refused += 1
    return refused


class Opened:
    """A dataset as one command surveys it."""

    def __init__(self, card: Card, path: Path, memory: Path):
        self.source: Source = make_source(card.reader, path, card=card)
        self.survey: Survey = self.source.survey(StampCache(memory))

    def listing(self, split: str) -> Listing:
        """Return the images of a split, whose number must match the survey."""
        listing = self.source.listing(split)
        facts = self.survey.splits[split]
        assert len(listing.ids) == len(set(listing.ids)) == facts.count
        assert (listing.labels is not None) == facts.labeled
        assert listing.labels is None or len(listing.labels) == facts.count
        return listing

    def prints(self) -> dict[str, str]:
        """Return the fingerprint of each split."""
        return {split: facts.fingerprint for split, facts in self.survey.splits.items()}


def opened(name: str, path: Path, memory: Path | None = None) -> Opened:
    """Open the files at `path` by the shipped card `name`."""
    card, _ = load_card(name)
    return Opened(card, path, memory or path.parent / "memory")


def pixels(listing: Listing, row: int) -> np.ndarray:
    """Return an image as (H, W, 3) uint8."""
    image = listing.read(row)
    return decode(image) if isinstance(image, bytes) else image
