"""Fingerprints of folders: what changes them, and what is read again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.datasets.conftest import fill
from tests.datasets.miniature import settle
from transfer.datasets.readers import file_digests as digests_module
from transfer.datasets.readers import file_tree as tree_module
from transfer.datasets.readers.base import Survey
from transfer.datasets.readers.folder import FolderSource
from transfer.utils.stamp_cache import StampCache


def fingerprints(survey: Survey) -> dict[str, str]:
    return {name: split.fingerprint for name, split in survey.splits.items()}


def test_other_time_stamps_leave_the_fingerprint(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png")
    before = fingerprints(survey_folder(folder))
    os.utime(folder / "a.png", (1, 1))
    assert fingerprints(survey_folder(folder)) == before


def test_a_moved_folder_keeps_its_fingerprint(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "train/a/1.png", "test/a/1.png")
    before = fingerprints(survey_folder(folder))
    shutil.copytree(folder, tmp_path / "other place" / "moved")
    assert fingerprints(survey_folder(tmp_path / "other place" / "moved")) == before


def test_a_changed_byte_with_its_time_stamp_kept_is_noticed(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png")
    settle()
    before, status = fingerprints(survey_folder(folder)), (folder / "a.png").stat()
    data = bytearray((folder / "a.png").read_bytes())
    data[-20] ^= 1
    (folder / "a.png").write_bytes(data)
    os.utime(folder / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprints(survey_folder(folder)) != before


def test_a_change_within_the_same_tick_of_the_clock_is_noticed(
    tmp_path: Path, survey_folder: Callable[..., Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "set", "a.png")
    frozen = [100, 1, time.time_ns(), 7]
    monkeypatch.setattr(tree_module, "file_stamp", lambda path: frozen)
    before = fingerprints(survey_folder(folder))
    data = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(data[:-1] + b"x")
    assert fingerprints(survey_folder(folder)) != before


@pytest.mark.parametrize("change", ["rename", "remove", "add", "swap"])
def test_other_names_or_files_give_another_fingerprint(
    tmp_path: Path, survey_folder: Callable[..., Survey], change: str
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png")
    before = fingerprints(survey_folder(folder))
    if change == "rename":
        (folder / "a.png").rename(folder / "c.png")
    elif change == "remove":
        (folder / "a.png").unlink()
    elif change == "add":
        fill(folder, "c.png")
    else:
        (folder / "a.png").rename(folder / "x")
        (folder / "b.png").rename(folder / "a.png")
        (folder / "x").rename(folder / "b.png")
    assert fingerprints(survey_folder(folder)) != before


def test_labels_are_part_of_the_fingerprint(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "a/1.png", "b/2.png")
    assert fingerprints(survey_folder(folder)) != fingerprints(survey_folder(folder, labeled=False))


def test_a_new_class_in_one_split_moves_the_labels_and_the_fingerprint_of_another(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "train/b/1.png", "test/b/1.png", "unlabeled/1.png")
    before = fingerprints(survey_folder(folder))
    fill(folder, "test/a/1.png")
    after = fingerprints(survey_folder(folder))
    assert FolderSource(folder).listing("train").labels == [1]
    assert after["train"] != before["train"]
    assert after["unlabeled"] == before["unlabeled"]


def test_bytes_are_read_once(
    tmp_path: Path, survey_folder: Callable[..., Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read, digest = (
        fill(tmp_path / "set", "a.png", "b.png", "c.png"),
        [],
        digests_module._digest,
    )
    monkeypatch.setattr(
        digests_module, "_digest", lambda tree, name: (read.append(name), digest(tree, name))[1]
    )
    settle()
    first = survey_folder(folder)
    assert sorted(read) == ["a.png", "b.png", "c.png"]
    assert survey_folder(folder) == first
    assert len(read) == 3
    fill(folder, "d.png")
    survey_folder(folder)
    assert read[3:] == ["d.png"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "list"])
def test_a_damaged_memory_is_forgotten(
    tmp_path: Path, survey_folder: Callable[..., Survey], damage: str
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png")
    settle()
    before = fingerprints(survey_folder(folder))
    (memory,) = (tmp_path / "memory").iterdir()
    data = memory.read_bytes()
    flipped = data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
    memory.write_bytes({"cut": data[:-9], "flip": flipped, "empty": b"", "list": b"[1, 2]"}[damage])
    assert fingerprints(survey_folder(folder)) == before


def test_a_memory_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    folder = fill(tmp_path / "set", "a.png")
    assert (
        FolderSource(folder).survey(StampCache(tmp_path / "file" / "memory")).splits["all"].count
        == 1
    )
