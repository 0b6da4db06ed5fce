"""Packing of folders: damaged images, and folders that change."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import encode, fill, picture
from tests.datasets.packed.test_decode import png
from transfer.artifacts import Images
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers.folder import FolderSource
from transfer.errors import TransferError

BAD = {
    "cut.jpg": (encode(picture(width=200, height=200), "JPEG")[:-500], "(?i)truncated"),
    "huge.png": (png(20_000, 20_000), "cannot hold 20000 x 20000 pixels"),
    "text.jpg": (b"these are words", "a text, not a picture"),
    "zero.webp": (b"", "empty file"),
}


def test_all_bad_pictures_are_listed_and_after_mending_the_set_packs(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    folder = fill(tmp_path / "set", "a.png", "z.png")
    for name, (data, _) in BAD.items():
        (folder / name).write_bytes(data)
    for _ in range(2):  # a second try raises the same error
        with pytest.raises(TransferError) as error:
            packed(plan(folder=folder))
        lines = str(error.value).splitlines()
        assert lines[0].startswith(f"4 of 6 images of {folder} cannot be used:")
        for line, (name, (_, reason)) in zip(lines[1:], BAD.items(), strict=False):
            assert line.startswith(f"  {name}: ")
            assert re.search(reason, line)
        assert not list((tmp_path / "built" / "pack").iterdir())
    before = plan(folder=folder).facts.fingerprint
    for name in BAD:
        (folder / name).write_bytes(encode(picture()))
    repaired = plan(folder=folder)
    assert repaired.facts.fingerprint != before
    assert len(packed(repaired, "repaired")) == 6


def test_of_many_bad_pictures_ten_are_shown(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(15):
        (folder / f"{number:02}.jpg").write_bytes(b"")
    with pytest.raises(TransferError) as error:
        packed(plan(folder=folder))
    lines = str(error.value).splitlines()
    assert lines[0].startswith("15 of 15 images")
    assert lines[10:12] == [
        "  09.jpg: an empty file: copy or download it again",
        "  ... and 5 more",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [("gone", "b.png was removed"), ("new", "d.png was added"), ("another", "b.png has changed")],
)
def test_a_folder_that_changed_since_it_was_planned_is_told_by_name(
    tmp_path: Path,
    plan: Callable[..., Pack],
    packed: Callable[..., Images],
    change: str,
    message: str,
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png", "c.png")
    pack = plan(folder=folder)
    if change == "gone":
        (folder / "b.png").unlink()
    elif change == "new":
        fill(folder, "d.png")
    else:
        (folder / "b.png").write_bytes(encode(picture(9)))
    with pytest.raises(
        TransferError, match=f"has changed since this run looked at it:\n  {message}\nRun the same"
    ):
        packed(pack)
    assert len(packed(plan(folder=folder), "again")) == {"gone": 2, "new": 4, "another": 3}[change]


def test_a_picture_that_changes_during_the_packing_is_told_by_name(
    tmp_path: Path,
    plan: Callable[..., Pack],
    packed: Callable[..., Images],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png", "c.png")
    listing = FolderSource.listing

    def change(source: FolderSource, split: str) -> Any:
        result = listing(source, split)
        (folder / "b.png").unlink()
        return result

    monkeypatch.setattr(FolderSource, "listing", change)
    with pytest.raises(TransferError, match=r"b\.png was removed"):
        packed(plan(folder=folder))


def test_a_folder_that_is_gone_altogether_is_told(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    pack = plan(folder=fill(tmp_path / "set", "a.png"))
    shutil.rmtree(tmp_path / "set")
    with pytest.raises(TransferError, match="set does not exist"):
        packed(pack)


def test_pictures_are_packed_under_their_own_ids(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    folder = tmp_path / "set"
    for value in (40, 10, 200):
        (folder / f"class {value}").mkdir(parents=True)
        gray = picture(width=16, height=16).point([value] * 768)
        gray.save(folder / f"class {value}" / "only.png")
    images = packed(plan(folder=folder))
    means = np.asarray(images.pixels).mean(axis=(1, 2, 3)).tolist()
    assert dict(zip(images.ids, means, strict=True)) == {
        f"class {v}/only.png": v for v in (10, 200, 40)
    }
    assert images.labels is not None
    assert [images.classes[label] for label in images.labels.tolist()] == [
        name.split("/")[0] for name in images.ids
    ]
