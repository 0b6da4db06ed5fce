"""A cache of facts about files, valid as long as the files' stamps stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from transfer.utils.files import TICK, file_stamp, hash_file, write_atomic


class StampCache:
    """A folder that caches facts about files, in a small file for each path."""

    FORMAT = 1  # raise it when the form of the facts changes: older ones are then ignored

    def __init__(self, folder: Path):
        self.folder = folder

    def recall(self, path: Path) -> dict[str, Any]:
        """Return the facts kept for `path`; empty if they are missing or damaged."""
        try:
            checksum, _, text = self._file(path).read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return {}
        return json.loads(text) if checksum == self._checksum(text) else {}

    def keep(self, path: Path, facts: dict[str, Any]) -> None:
        """Keep the facts about `path`. A read-only store is no error: it only costs time."""
        target, text = self._file(path), json.dumps(facts)
        with suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, f"{self._checksum(text)}\n{text}")

    def digest(self, path: Path) -> str:
        """Return the sha256 of a file, cached while its stamp is the same; OSError as of `open`."""
        stamp, facts = file_stamp(path), self.recall(path)
        if facts.get("stamp") != stamp:
            facts = {"stamp": settled_stamp(stamp), "digest": hash_file(path)[0]}
            self.keep(path, facts)
        return facts["digest"]

    def _file(self, path: Path) -> Path:
        return self.folder / (hashlib.sha256(os.fsencode(path)).hexdigest()[:24] + ".json")

    def _checksum(self, text: str) -> str:
        return hashlib.sha256(f"{self.FORMAT}\n{text}".encode()).hexdigest()


def settled_stamp(stamp: list[int]) -> list[int]:
    """Return the stamp to keep: empty for a file that changed a moment ago.

    Another change within the clock's step would leave the stamp the same.
    """
    return stamp if time.time_ns() - stamp[2] > TICK else []
