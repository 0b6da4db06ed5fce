"""Files that commands write for their user: on a full disk, through a link, with their mode."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Said, Tiny

# The word before the file, and the words of the command with the name of its file.
COMMANDS = [
    (["report"], ["-o"], "r.html"),
    (["compare"], ["-o"], "t.txt"),
    (["compare"], ["--plot"], "p.png"),
    (["compare"], ["--plot"], "p.svg"),
    (["compare"], ["--plot"], "p.pdf"),
    (["show"], ["pretext", "--batch"], "b.png"),
]
OF_EACH = pytest.mark.parametrize(
    ("before", "after", "name"), COMMANDS, ids=lambda value: value[-1]
)


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """Let no file of this process get longer, as on a disk that gets full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@OF_EACH
@pytest.mark.parametrize("existed", [True, False])
def test_a_failure_keeps_the_earlier_file_and_leaves_nothing_else(
    invoke: Callable[..., Said],
    finished: Tiny,
    tmp_path: Path,
    before: list[str],
    after: list[str],
    name: str,
    existed: bool,
) -> None:
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / name
    if existed:
        target.write_bytes(b"earlier")
    with no_more_than(20):
        said = invoke(*before, finished.file, *after, target, "--store", finished.store, check=1)
    assert f"{target}: cannot be written: File too large" in said.err
    assert ("the earlier file is kept" in said.err) is existed
    assert f"{target} written" not in said.text
    assert [path.name for path in target.parent.iterdir()] == ([name] if existed else [])
    assert not existed or target.read_bytes() == b"earlier"


@OF_EACH
def test_a_full_disk_is_named(
    invoke: Callable[..., Said],
    finished: Tiny,
    tmp_path: Path,
    before: list[str],
    after: list[str],
    name: str,
) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    said = invoke(*before, finished.file, *after, name, "--store", finished.store, check=1)
    assert f"{name}: the disk is full" in said.err
    assert os.readlink(tmp_path / name) == "/dev/full"


@OF_EACH
def test_a_link_stays_and_its_file_keeps_its_mode(
    invoke: Callable[..., Said],
    finished: Tiny,
    tmp_path: Path,
    before: list[str],
    after: list[str],
    name: str,
) -> None:
    (tmp_path / "out").mkdir()
    kept = tmp_path / "out" / ("k" * 200 + name)
    kept.write_bytes(b"earlier")
    kept.chmod(0o640)
    (tmp_path / name).symlink_to(kept)
    invoke(*before, finished.file, *after, name, "--store", finished.store)
    assert (tmp_path / name).is_symlink()
    assert kept.read_bytes() not in (b"earlier", b"")
    assert kept.stat().st_mode & 0o777 == 0o640
    (tmp_path / name).unlink()
    old = os.umask(0o027)
    try:
        invoke(*before, finished.file, *after, name, "--store", finished.store)
    finally:
        os.umask(old)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / name).read_bytes()[:50] == kept.read_bytes()[:50]
