"""What a command said when there was nothing to do: said again at once, for as long as nothing it stands on changed.

Reading a pipeline file and checking all of it takes most of a run that finds everything cached. So its answer is kept
with the stamps of every file that it was read from: the pipeline file, cards, image files, the code of the stages, and
each file of each artifact. One that differs in size, times, or place on disk, and all is read anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from transfer.utils.files import TICK, file_stamp


def cached_answer(store: Path) -> str | None:
    """What this very command said, if all that it read is as it was."""
    try:
        kept = json.loads(_file(store).read_text(encoding="utf-8"))
        unchanged = all(file_stamp(Path(path)) == then for path, then in kept["stamps"].items())
        return str(kept["text"]) if unchanged else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def store_answer(store: Path, text: str, read: Iterable[Path]) -> None:
    """Keep `text` as the answer to this command. `read`: the files that it was read from, besides the code."""
    modules = [name for name in sys.modules if name.partition(".")[0] in ("transfer", "stages")]
    code = [file for name in modules if (file := getattr(sys.modules[name], "__file__", None))]
    target = _file(store)
    draft = target.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # an answer that cannot be kept costs time, nothing else
        stamps = {str(path): file_stamp(path) for path in [*read, *map(Path, code)]}
        if max(one[2] for one in stamps.values()) > time.time_ns() - TICK:
            return  # one more change within the clock's step would leave the stamp the same
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({"stamps": stamps, "text": text}), encoding="utf-8")
        os.replace(draft, target)


def _file(store: Path) -> Path:
    asked = [sys.version, os.getcwd(), os.environ.get("TRANSFER_STORE"), *sys.argv[1:]]
    return (
        store / ".answers" / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]}.json"
    )
