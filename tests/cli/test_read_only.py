"""A store that cannot be written: the message names the remedy, and its results can be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.small import SMALL, clusters
from tests.conftest import Said

Invoke = Callable[..., Said]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
REMEDY = "choose another folder with --store or TRANSFER_STORE"


@pytest.fixture
def read_only(
    pipeline: Callable[..., Path], invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """A finished pipeline in a project on a read-only file system."""
    (tmp_path / "project" / "pipelines").mkdir(parents=True)
    file = pipeline(SMALL, "project/pipelines/small.yaml")
    invoke("run", file, "--set", "stages.clusters.k=6")
    invoke("run", file)
    project, opened = tmp_path / "project", os.open

    def refuse(path: Any, name: str) -> None:
        if project in Path(os.path.abspath(path)).parents:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def no_write(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & WRITES:
            refuse(path, "open")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", no_write)
    for name in ("mkdir", "rename", "replace", "unlink", "rmdir"):
        original = getattr(os, name)

        def change(path: Any, *rest: Any, original: Any = original, **more: Any) -> Any:
            refuse(path, "change")
            return original(path, *rest, **more)

        monkeypatch.setattr(os, name, change)
    return file


def test_results_are_read_and_a_run_with_nothing_to_do_has_nothing_to_say(
    invoke: Invoke, read_only: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        assert "nothing to do" in invoke("run", read_only).out
    assert "up to date" in invoke("status", read_only).out
    for words in (["show"], ["verify"], ["graph"], ["history"]):
        assert invoke(words[0], read_only, *words[1:]).out
    invoke("export", read_only, "net", tmp_path / "out")
    store = tmp_path / "project" / ".transfer"
    assert "1 entry" in invoke("gc", "--store", store, "--older-than", "0d").out


def test_what_has_to_write_says_how_to_go_on(
    invoke: Invoke, read_only: Path, tmp_path: Path
) -> None:
    store = tmp_path / "project" / ".transfer"
    for words in (
        ["run", read_only, "--force"],
        ["run", read_only, "--smoke"],
        ["run", read_only, "--tag", "best"],  # nothing to do, but a tag that is not kept
        ["run", read_only, "--set", "stages.clusters.k=7", "-j", "2"],
        ["gc", "--store", store, "--older-than", "0d", "--delete"],
    ):
        said = invoke(*words, check=2).err
        assert f"{store}" in said
        assert f"the store cannot be written (Read-only file system); {REMEDY}" in said
    assert clusters(store).keys() == {5, 6}
    assert "clusters: done" in invoke("run", read_only, "--store", tmp_path / "s").out
