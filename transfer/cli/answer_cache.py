"""Caches the output of commands that had nothing to do, for as long as no file behind it changes.

Reading a pipeline file and checking all of it takes most of the time of a run that finds everything
cached. The output is therefore kept with the stamps of every file that it was made from: the
pipeline file, cards, image files, the code of the stages, and each file of each artifact. Where the
size, a time or the inode of one differs, the command reads everything again.
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

from transfer.datasets.readers.picture_suffixes import readable_suffixes
from transfer.storage.history_lines import repeat_run
from transfer.storage.layout import ANSWERS
from transfer.utils.files import TICK, file_stamp, write_atomic


def cached_answer(root: Path) -> str | None:
    """The output of this very command, if every file that it read is unchanged.

    A run is recorded in the history once more.
    """
    try:
        answer = json.loads(_file(root).read_text(encoding="utf-8"))
        stamps = answer["stamps"].items()
        if not all(file_stamp(Path(path)) == stamp for path, stamp in stamps):
            return None
        if answer["run"] is not None and not _record_again(*answer["run"]):
            return None
        return str(answer["text"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _record_again(store: str, place: int, run: str) -> bool:
    try:
        return repeat_run(Path(store), place, run)
    except OSError:  # a read-only store
        return True


def store_answer(
    root: Path, text: str, files: Iterable[Path], run: tuple[str, int, str] | None = None
) -> None:
    """Cache `text` as the output of this command.

    Args:
        root: the folder of the store.
        text: what the command printed.
        files: the files that it was made from, besides code.
        run: the store whose history has a line for a run, the place of that line, and its id.
    """
    modules = [name for name in sys.modules if name.partition(".")[0] in ("transfer", "stages")]
    code = [file for name in modules if (file := getattr(sys.modules[name], "__file__", None))]
    target = _file(root)
    with suppress(OSError):  # an output that cannot be cached costs time, nothing else
        stamps = {str(path): file_stamp(path) for path in [*files, *map(Path, code)]}
        # One more change within the clock's step would leave a stamp the same.
        if max(stamp[2] for stamp in stamps.values()) > time.time_ns() - TICK:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, json.dumps({"stamps": stamps, "text": text, "run": run}))


def _file(root: Path) -> Path:
    """The file of this command's output: arguments, folder, variables and Python name it.

    So do the kinds of pictures that are read, which an installed package may add to.
    """
    place = [os.getcwd(), os.environ.get("TRANSFER_STORE")]
    command = [sys.version, *readable_suffixes(), *place, *sys.argv[1:]]
    digest = hashlib.sha256(json.dumps(command).encode()).hexdigest()
    return root / ANSWERS / f"{digest[:24]}.json"
