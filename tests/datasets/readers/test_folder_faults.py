"""Folders that cannot be read, or in more than one way."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.conftest import encode, fill, needs_user, picture
from transfer.datasets.readers import file_tree as tree_module
from transfer.datasets.readers.base import Survey
from transfer.errors import UsageError


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images"),
        (["notes.txt"], "holds no images"),
        (["train/a/1.png", "test/notes.txt"], "test.* holds no images"),
        (["1.png", "a/2.png"], "both images .1.png, .* and folders"),
        (["train/1.png", "train/a/2.png"], "both images .train/1.png, .* and folders"),
        (
            ["train/1.png", "car/2.png", "boat/3.png"],
            r"holds splits \(train\) and images outside of them",
        ),
        (["train/1.png", "2.png"], r"\(2.png, ...\)"),
    ],
)
def test_a_folder_that_can_be_read_in_no_way_or_in_two_is_refused(
    tmp_path: Path, survey_folder: Callable[..., Survey], names: list[str], message: str
) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(UsageError, match=message):
        survey_folder(fill(tmp_path / "set", *names))


def test_a_folder_that_is_not_there_or_is_a_file_is_told(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        survey_folder(tmp_path / "set")
    (tmp_path / "set").write_text("x")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        survey_folder(tmp_path / "set")


def test_what_is_no_plain_file_is_refused_and_never_opened(
    tmp_path: Path, survey_folder: Callable[..., Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "set", "a.png")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "broken.png").symlink_to(folder / "gone.png")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder)  # a socket's path must be short
        listener.bind("socket.png")
        with pytest.raises(UsageError) as error:
            survey_folder(folder)
    message = str(error.value)
    assert f"{folder}: 3 files cannot be read" in message
    assert "broken.png: No such file" in message
    assert "pipe.jpg: is not a regular file" in message
    assert "socket.png: is not a regular file" in message


def test_names_that_are_not_utf8_are_told(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "a.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(encode(picture()))
    with pytest.raises(UsageError, match=r"caf\\udce9.png': its name is not valid UTF-8"):
        survey_folder(folder)


@needs_user
def test_all_unreadable_pictures_are_listed(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", *[f"{number:02}.png" for number in range(14)])
    for number in range(12):
        (folder / f"{number:02}.png").chmod(0)
    with pytest.raises(
        UsageError, match=r"12 files cannot be read:\n  00.png: Permission denied"
    ) as error:
        survey_folder(folder)
    assert "... and 2 more" in str(error.value)


def test_a_folder_that_cannot_be_listed_is_told_and_not_left_out(
    tmp_path: Path, survey_folder: Callable[..., Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "set", "a/1.png", "b/2.png")
    listing = os.scandir

    def refuse(path: Path) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(tree_module.os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"set/b: cannot be read \(Permission denied\)"):
        survey_folder(folder)
