"""Lines of a history: appended at once by many, read from both ends, damaged ones reported."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.storage.history_lines import (
    BLOCK,
    append_line,
    blank_lines,
    line_at,
    lines_from_end,
    read_lines,
)


def bodies(path: Path) -> list[dict[str, Any] | None]:
    return [body for _, body in read_lines(path)]


@settings(max_examples=30)
@given(
    st.lists(
        st.dictionaries(
            st.text(min_size=1, max_size=5), st.text(max_size=BLOCK // 3), min_size=1, max_size=4
        ),
        max_size=6,
    )
)
def test_what_is_appended_is_read_from_both_ends(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("history") / "runs"
    places = [append_line(path, entry) for entry in entries]
    assert bodies(path) == entries
    assert list(lines_from_end(path)) == entries[::-1]
    assert [line_at(path, place) for place in places] == entries


def test_many_lines_are_read_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    for number in range(3000):
        append_line(path, {"number": number, "text": "é " * (number % 40)})
    assert path.stat().st_size > 3 * BLOCK
    assert [body["number"] for body in lines_from_end(path)] == list(range(3000))[::-1]


def test_a_torn_or_changed_line_is_reported_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    for number in range(3):
        append_line(path, {"number": number})
    content = path.read_bytes()
    for length in range(1, len(content) // 3):
        path.write_bytes(content[:-length])
        append_line(path, {"number": 9})
        torn = None if length > 1 else {"number": 2}  # only its line feed is missing
        assert bodies(path) == [{"number": 0}, {"number": 1}, torn, {"number": 9}]
        assert next(lines_from_end(path)) == {"number": 9}
    for position in range(len(content) // 3 - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert bodies(path)[-2:] == [{"number": 1}, {"number": 2}]
        assert {"number": 0} not in bodies(path)
        assert line_at(path, 0) is None


def test_damaged_lines_are_blanked_in_place(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    append_line(path, {"number": 0})
    with path.open("ab") as file:
        file.write(b"half a li\n")
    place = append_line(path, {"number": 2})
    blank_lines(path, {2})
    assert bodies(path) == [{"number": 0}, {"number": 2}]
    assert line_at(path, place) == {"number": 2}


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "runs", os.write
    append_line(path, {"number": 0})
    monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:5]))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        append_line(path, {"number": 1})
    monkeypatch.undo()
    assert bodies(path) == [{"number": 0}]


def test_processes_that_append_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    code = (
        "import sys; from pathlib import Path\n"
        "from transfer.storage.history_lines import append_line\n"
        "for i in range(200):\n"
        "    append_line(Path(sys.argv[1]), {'who': sys.argv[2], 'i': i, 'x': 'x' * 40 * i})\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("a", "b", "c")
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    written = bodies(path)
    for name in ("a", "b", "c"):
        assert [line["i"] for line in written if line and line["who"] == name] == list(range(200))
    assert len(written) == 600


def test_a_missing_history_is_empty(tmp_path: Path) -> None:
    assert bodies(tmp_path / "none") == []
    assert list(lines_from_end(tmp_path / "none")) == []
    assert line_at(tmp_path / "none", 0) is None
