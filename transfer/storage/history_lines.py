"""The lines of a history: JSON with a checksum, appended in one write and never changed.

A line that a power cut tore, or whose bytes changed, does not match its checksum. It is reported,
not skipped: what the run of that line used is then unknown.

A run with nothing to do imports this file, so it imports little.
"""

from __future__ import annotations

import errno
import json
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from transfer.storage.layout import HISTORY

BLOCK = 1 << 16  # bytes that are read at a time from the end
ID_LENGTH = 8  # hex digits
HEAD = b'{"checksum":"'

Line = dict[str, Any]


def append_line(path: Path, body: Line) -> int:
    """Append a line, and return where it starts; OSError for a read-only folder or a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        _lock(handle)
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        content = (b"\n" if torn else b"") + _encode(body)
        if os.write(handle, content) < len(content):
            os.ftruncate(handle, size)  # half a line would count as a damaged one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return size + torn
    finally:
        os.close(handle)


def read_lines(path: Path) -> Iterator[tuple[int, Line | None]]:
    """Yield (line number, body) of each line, oldest first; the body of a damaged one is None."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for number, text in enumerate(content.split(b"\n"), 1):
        if text.strip():
            yield number, _decode(text)


def line_at(path: Path, start: int) -> Line | None:
    """Return the body of the line that starts at a byte; None if there is no such line."""
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return _decode(file.readline().rstrip(b"\n"))
    except OSError:
        return None


def lines_from_end(path: Path) -> Iterator[Line]:
    """Yield the bodies of all undamaged lines, latest first, and read no more than is taken."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        position, rest = os.fstat(handle).st_size, b""
        while position > 0:
            start = max(0, position - BLOCK)
            block = os.pread(handle, position - start, start) + rest
            position = start
            rest, *texts = block.split(b"\n") if position else [b"", *block.split(b"\n")]
            for text in reversed(texts):
                if (body := _decode(text)) is not None:
                    yield body
    finally:
        os.close(handle)


def last_run_line(root: Path, file: Path) -> Line | None:
    """Return the line of a file's last run in the history of a store.

    The file is found by its place beside the store too, in case both were moved.
    """
    path, place = str(file.resolve()), relative_place(root, file)
    for line in lines_from_end(history_file(root)):
        if "sets" in line and (line.get("file") == path or line.get("place") == place):
            return line
    return None


def relative_place(root: Path, file: Path) -> str:
    """Return the path of a file from the folder of a store."""
    try:
        return os.path.relpath(file.resolve(), root.resolve())
    except ValueError:  # on another drive
        return ""


def repeat_run(root: Path, place: int, run: str) -> bool:
    """Append a line for the run whose line is at a place, with nothing to do again.

    False, and nothing is appended, if that line is missing.
    """
    path = history_file(root)
    line = line_at(path, place)
    if line is None or line.get("run") != run:
        return False
    now = round(time.time(), 3)
    changes = {"run": new_run_id(), "time": now, "ended": now, "same": run, "tag": ""}
    append_line(path, {**line, **changes, "artifacts": {}, "figures": {}})
    return True


def history_file(root: Path) -> Path:
    """Return the file of the history of a store."""
    return root / HISTORY / "runs.jsonl"


def new_run_id() -> str:
    """Return a new id of a run."""
    return os.urandom(ID_LENGTH // 2).hex()


def blank_lines(path: Path, numbers: set[int]) -> None:
    """Overwrite lines with spaces, in place: no line that is appended meanwhile is lost."""
    position, handle = 0, os.open(path, os.O_RDWR)
    try:
        _lock(handle)
        for number, text in enumerate(path.read_bytes().split(b"\n"), 1):
            if number in numbers:
                os.pwrite(handle, b" " * len(text), position)
            position += len(text) + 1
    finally:
        os.close(handle)


def _encode(body: Line) -> bytes:
    text = json.dumps(body, separators=(",", ":")).encode()
    return _head(text) + text[1:] + b"\n"


def _decode(line: bytes) -> Line | None:
    """Return the body of a line; None if the line does not match its checksum."""
    start = len(HEAD) + len('00000000",')
    text = b"{" + line[start:]
    return json.loads(text) if line[:start] == _head(text) else None


def _head(text: bytes) -> bytes:
    """The start of a line, up to the first name of its body."""
    return b'%s%08x",' % (HEAD, zlib.crc32(text))


def _lock(handle: int) -> None:
    """Lock an open file until it is closed, where the system can."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
