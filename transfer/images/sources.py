"""Sources: where the images of a set come from, before they are packed.

A source answers three questions: what is there (`survey`, quick, without heavy imports where a file has not changed
since it was last looked at), which images a split has (`listing`), and what one of them looks like (`read`).
`folder.py`, `hdf5.py` and `drawings.py` have one each.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from transfer.errors import UsageError

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
    """What is known of a set."""

    splits: dict[str, Split]
    classes: list[str] = field(default_factory=list)
    size: int | None = None

    def find(self, wanted: str, explicit: bool) -> str:
        """The split to read: `wanted`; unless the file names it, `train` does for `unlabeled`, and an only one for all."""
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
    """Remembers what was learned of files, for as long as their size and time of change stay the same."""

    def __init__(self, folder: Path):
        self.folder = folder

    def recall(self, path: Path) -> dict[str, Any]:
        try:
            return json.loads(self._file(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def keep(self, path: Path, facts: dict[str, Any]) -> None:
        """A store that cannot be written to costs time, not results."""
        target = self._file(path)
        draft = target.with_suffix(f".{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(facts), encoding="utf-8")
            os.replace(draft, target)
        except OSError:
            draft.unlink(missing_ok=True)

    def _file(self, path: Path) -> Path:
        return self.folder / (hashlib.sha256(str(path).encode()).hexdigest()[:24] + ".json")


def stamp(status: os.stat_result) -> list[int]:
    """What tells that a file may have changed; the time of the last status change cannot be set back by hand."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def survey_to_json(survey: Survey) -> dict[str, Any]:
    return asdict(survey)


def survey_from_json(facts: dict[str, Any]) -> Survey:
    splits = {name: Split(**split) for name, split in facts["splits"].items()}
    return Survey(splits, facts["classes"], facts["size"])
