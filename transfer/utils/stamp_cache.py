"""Facts learned from files, valid for as long as the files' stamps stay the same."""

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
    """A folder of facts, a small file for each path that they were learned from."""

    FORMAT = 1  # raise it when the facts change their form: older ones are forgotten

    def __init__(self, folder: Path):
        self.folder = folder

    def recall(self, path: Path) -> dict[str, Any]:
        """The facts kept for `path`; empty where there are none, or they are damaged."""
        try:
            checksum, _, text = self._file(path).read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return {}
        return json.loads(text) if checksum == self._checksum(text) else {}

    def keep(self, path: Path, facts: dict[str, Any]) -> None:
        """Keep `facts`; a store that cannot be written to costs time, not results."""
        target, text = self._file(path), json.dumps(facts)
        with suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, f"{self._checksum(text)}\n{text}")

    def digest(self, path: Path) -> str:
        """The sha256 of a file, computed anew where its stamp has changed; OSError as for reading."""
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
    """The stamp to keep: empty for a file that changed a moment ago.

    One more change within the clock's step would leave the stamp the same.
    """
    return stamp if time.time_ns() - stamp[2] > TICK else []
