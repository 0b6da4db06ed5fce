"""Sources: where the images of a set come from, before they are packed.

A source answers three questions: what is there (`survey`, quick, without heavy imports where a file has not changed
since it was last looked at), which images a split has (`listing`), and what one of them looks like (`read`).
`folder.py`, `hdf5.py` and `drawings.py` have one each.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from transfer.errors import UsageError
from transfer.files import TICK

if TYPE_CHECKING:
    import numpy

DEFAULT_SIZE = 96


@dataclass(frozen=True)
class Split:
    """What is known of a split without decoding it. `fingerprint` changes when a byte of an image or a label does."""

    count: int
    labelled: bool
    fingerprint: str


@dataclass(frozen=True)
class Survey:
    """What is known of a set. `changes` tells what differs from the last time that it was looked at."""

    splits: dict[str, Split]
    classes: list[str] = field(default_factory=list)
    size: int | None = None
    changes: list[str] = field(default_factory=list)

    def find(self, wanted: str, explicit: bool) -> str:
        """The split to read: `wanted`; for `unlabeled`, unless the file names it, also `train` or the only one."""
        if wanted in self.splits:
            return wanted
        if not explicit and wanted == "unlabeled" and "train" in self.splits:
            return "train"
        if not explicit and wanted == "unlabeled" and len(self.splits) == 1:
            return next(iter(self.splits))
        raise UsageError(f"has no split '{wanted}' (it has: {', '.join(self.splits) or 'none'})")


@dataclass(frozen=True)
class Listing:
    """The images of a split in a fixed order; `squares(rows, size)` reads some of them.

    It returns for each row a (size, size, 3) uint8 array, or the text of what is wrong with the image.
    """

    ids: list[str]
    labels: list[int] | None
    squares: Callable[[Sequence[int], int], list[numpy.ndarray | str]]


class Source(Protocol):
    """What a reader offers."""

    def survey(self, memory: SurveyMemory) -> Survey: ...

    def listing(self, split: str) -> Listing: ...


class SurveyMemory:
    """Remembers what was learned of files, for as long as their stamps stay the same."""

    FORMAT = 1  # raise it when the facts look different: older ones are forgotten

    def __init__(self, folder: Path):
        self.folder = folder

    def recall(self, path: Path) -> dict[str, Any]:
        """What was kept for `path`; nothing where that is not what was written."""
        try:
            checksum, _, text = self._file(path).read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return {}
        return json.loads(text) if checksum == self._checksum(text) else {}

    def keep(self, path: Path, facts: dict[str, Any]) -> None:
        """A store that cannot be written to costs time, not results."""
        target = self._file(path)
        draft = target.with_suffix(f".{os.getpid()}")
        text = json.dumps(facts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(f"{self._checksum(text)}\n{text}", encoding="utf-8")
            os.replace(draft, target)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _file(self, path: Path) -> Path:
        return self.folder / (hashlib.sha256(os.fsencode(path)).hexdigest()[:24] + ".json")

    def _checksum(self, text: str) -> str:
        return hashlib.sha256(f"{self.FORMAT}\n{text}".encode()).hexdigest()


def lasting(stamp: list[int]) -> list[int]:
    """The stamp to remember: none for a file that changed a moment ago, as one more change might leave it the same."""
    return stamp if time.time_ns() - stamp[2] > TICK else []


SHOWN = 10


def listed(faults: Sequence[str]) -> str:
    """Faults on lines of their own: ten, and how many more there are."""
    more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return "".join(f"\n  {line}" for line in [*faults[:SHOWN], *more])
