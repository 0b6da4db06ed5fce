from __future__ import annotations

import os
import re
import shutil
import socket
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import encode, fill, needs_user, picture
from tests.datasets.miniature import settle
from tests.datasets.packed.test_decode import png
from transfer.artifacts import Images
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers import file_digests as digests_module
from transfer.datasets.readers import file_tree as tree_module
from transfer.datasets.readers.base import Survey
from transfer.datasets.readers.folder import FolderSource
from transfer.errors import TransferError, UsageError
from transfer.utils.stamp_cache import StampCache


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., Survey]:
    return lambda folder, labeled=True: FolderSource(folder, labeled).survey(
        StampCache(tmp_path / "memory")
    )


def fingerprints(survey: Survey) -> dict[str, str]:
    return {name: split.fingerprint for name, split in survey.splits.items()}


# Layouts


def test_a_flat_folder_is_one_split_without_labels(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    survey = look(fill(tmp_path / "set", "b.png", "a.jpg", "c.WEBP"))
    assert (survey.splits["all"].count, survey.splits["all"].labeled, survey.classes) == (
        3,
        False,
        [],
    )
    assert FolderSource(tmp_path / "set").listing("all").ids == ["a.jpg", "b.png", "c.WEBP"]


def test_a_folder_a_class_is_one_split_with_labels_in_the_order_of_the_names(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "dog/1.png", "cat/2.png", "cat/deep/er/3.png")
    assert look(folder).classes == ["cat", "dog"]
    listing = FolderSource(folder).listing("all")
    assert dict(zip(listing.ids, listing.labels or [], strict=True)) == {
        "cat/2.png": 0,
        "cat/deep/er/3.png": 0,
        "dog/1.png": 1,
    }


def test_a_folder_a_split_has_the_classes_of_all_splits(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    folder = fill(
        tmp_path / "set", "unlabeled/x.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"
    )
    survey = look(folder)
    assert {name: (split.count, split.labeled) for name, split in survey.splits.items()} == {
        "unlabeled": (1, False),
        "train": (1, True),
        "test": (2, True),
    }
    assert survey.classes == ["a", "b"]
    assert FolderSource(folder).listing("train").labels == [1]
    assert FolderSource(folder).listing("test").ids == ["test/a/1.png", "test/b/1.png"]


def test_without_labels_subfolders_are_no_classes(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "a/1.png", "2.png")
    assert not look(folder, labeled=False).splits["all"].labeled
    assert FolderSource(folder, labeled=False).listing("all").labels is None


def test_one_image_is_a_set(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    assert packed(plan(folder=fill(tmp_path / "set", "only.png"))).pixels.shape == (1, 16, 16, 3)


def test_names_with_spaces_and_other_scripts_become_ids(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    names = [
        "märz 2020/ein bild.png",
        "写真/猫.jpg",
        "عربي/صورة.png",
        'emoji 🐟/it\'s "one".png',
        "a\nb/c\\d.png",
    ]
    images = packed(plan(folder=fill(tmp_path / "set", *names)))
    assert sorted(images.ids) == sorted(names)
    assert len(images.classes) == 5


def test_hidden_files_folders_and_other_kinds_of_files_are_passed_over(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    fill(tmp_path / "set", "a.png", ".b.png", ".hidden/c.png", "notes.txt", "x.jpg/.keep")
    assert look(tmp_path / "set").splits["all"].count == 1


def test_a_folder_called_like_a_picture_is_a_folder(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    survey = look(fill(tmp_path / "set", "x.jpg/1.png"))
    assert survey.classes == ["x.jpg"]


def test_links_to_folders_are_followed_and_loops_end(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    fill(tmp_path / "elsewhere", "1.png", "2.png")
    folder = fill(tmp_path / "set", "cat/1.png")
    (folder / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "cat" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "cat" / "self").symlink_to(folder / "cat", target_is_directory=True)
    (tmp_path / "elsewhere" / "top").symlink_to(tmp_path / "set", target_is_directory=True)
    survey = look(folder)
    assert survey.classes == ["cat", "dog"]
    assert survey.splits["all"].count == 3


def test_a_link_that_leads_to_itself_is_told_where_it_is_called_like_a_picture(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/1.png")
    (folder / "cat" / "round").symlink_to(folder / "cat" / "round")
    assert look(folder).splits["all"].count == 2
    (folder / "cat" / "round.png").symlink_to(folder / "cat" / "round.png")
    with pytest.raises(UsageError, match=r"cat/round.png: Too many levels of symbolic links"):
        look(folder)


@pytest.mark.parametrize("form", ["zip", "stored zip", "tar"])
@pytest.mark.parametrize("top", ["photos/", ""])
def test_an_archive_of_a_folder_is_that_folder(
    tmp_path: Path,
    look: Callable[..., Survey],
    plan: Callable[..., Pack],
    packed: Callable[..., Images],
    form: str,
    top: str,
) -> None:
    names = [
        "train/cat/1 ü.png",
        "train/dog/deep/2.png",
        "test/cat/3.jpg",
        "test/notes.txt",
        "test/.hidden.png",
    ]
    folder = fill(tmp_path / "photos", *names)
    path = tmp_path / ("photos.tar" if form == "tar" else "photos.zip")
    if form == "tar":
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(folder, arcname=top or ".")
    else:
        with zipfile.ZipFile(
            path, "w", zipfile.ZIP_STORED if "stored" in form else zipfile.ZIP_DEFLATED
        ) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, top + file.relative_to(folder).as_posix())
    assert look(path) == look(folder)
    assert FolderSource(path).listing("train").ids == names[:2]
    assert (
        packed(plan("train", folder=path), "a").pixels
        == packed(plan("train", folder=folder), "b").pixels
    ).all()


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
    tmp_path: Path, look: Callable[..., Survey], names: list[str], message: str
) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(UsageError, match=message):
        look(fill(tmp_path / "set", *names))


def test_a_folder_that_is_not_there_or_is_a_file_is_told(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        look(tmp_path / "set")
    (tmp_path / "set").write_text("x")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        look(tmp_path / "set")


def test_what_is_no_plain_file_is_refused_and_never_opened(
    tmp_path: Path, look: Callable[..., Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "set", "a.png")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "broken.png").symlink_to(folder / "gone.png")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder)  # a socket's path must be short
        listener.bind("socket.png")
        with pytest.raises(UsageError) as error:
            look(folder)
    message = str(error.value)
    assert f"{folder}: 3 files cannot be read" in message
    assert "broken.png: No such file" in message
    assert "pipe.jpg: is not a regular file" in message
    assert "socket.png: is not a regular file" in message


def test_names_that_are_not_utf8_are_told(tmp_path: Path, look: Callable[..., Survey]) -> None:
    folder = fill(tmp_path / "set", "a.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(encode(picture()))
    with pytest.raises(UsageError, match=r"caf\\udce9.png': its name is not valid UTF-8"):
        look(folder)


@needs_user
def test_all_unreadable_pictures_are_listed(tmp_path: Path, look: Callable[..., Survey]) -> None:
    folder = fill(tmp_path / "set", *[f"{number:02}.png" for number in range(14)])
    for number in range(12):
        (folder / f"{number:02}.png").chmod(0)
    with pytest.raises(
        UsageError, match=r"12 files cannot be read:\n  00.png: Permission denied"
    ) as error:
        look(folder)
    assert "... and 2 more" in str(error.value)


def test_a_folder_that_cannot_be_listed_is_told_and_not_left_out(
    tmp_path: Path, look: Callable[..., Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "set", "a/1.png", "b/2.png")
    listing = os.scandir

    def refuse(path: Path) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(tree_module.os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"set/b: cannot be read \(Permission denied\)"):
        look(folder)


# Fingerprints


def test_other_time_stamps_leave_the_fingerprint(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png")
    before = fingerprints(look(folder))
    os.utime(folder / "a.png", (1, 1))
    assert fingerprints(look(folder)) == before


def test_a_moved_folder_keeps_its_fingerprint(tmp_path: Path, look: Callable[..., Survey]) -> None:
    folder = fill(tmp_path / "set", "train/a/1.png", "test/a/1.png")
    before = fingerprints(look(folder))
    shutil.copytree(folder, tmp_path / "other place" / "moved")
    assert fingerprints(look(tmp_path / "other place" / "moved")) == before


def test_a_changed_byte_with_its_time_stamp_kept_is_noticed(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png")
    settle()
    before, status = fingerprints(look(folder)), (folder / "a.png").stat()
    data = bytearray((folder / "a.png").read_bytes())
    data[-20] ^= 1
    (folder / "a.png").write_bytes(data)
    os.utime(folder / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprints(look(folder)) != before


def test_a_change_within_the_same_tick_of_the_clock_is_noticed(
    tmp_path: Path, look: Callable[..., Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "set", "a.png")
    frozen = [100, 1, time.time_ns(), 7]
    monkeypatch.setattr(tree_module, "file_stamp", lambda path: frozen)
    before = fingerprints(look(folder))
    data = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(data[:-1] + b"x")
    assert fingerprints(look(folder)) != before


@pytest.mark.parametrize("change", ["rename", "remove", "add", "swap"])
def test_other_names_or_files_give_another_fingerprint(
    tmp_path: Path, look: Callable[..., Survey], change: str
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png")
    before = fingerprints(look(folder))
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
    assert fingerprints(look(folder)) != before


def test_labels_are_part_of_the_fingerprint(tmp_path: Path, look: Callable[..., Survey]) -> None:
    folder = fill(tmp_path / "set", "a/1.png", "b/2.png")
    assert fingerprints(look(folder)) != fingerprints(look(folder, labeled=False))


def test_a_new_class_in_one_split_moves_the_labels_and_the_fingerprint_of_another(
    tmp_path: Path, look: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "train/b/1.png", "test/b/1.png", "unlabeled/1.png")
    before = fingerprints(look(folder))
    fill(folder, "test/a/1.png")
    after = fingerprints(look(folder))
    assert FolderSource(folder).listing("train").labels == [1]
    assert after["train"] != before["train"]
    assert after["unlabeled"] == before["unlabeled"]


def test_bytes_are_read_once(
    tmp_path: Path, look: Callable[..., Survey], monkeypatch: pytest.MonkeyPatch
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
    first = look(folder)
    assert sorted(read) == ["a.png", "b.png", "c.png"]
    assert look(folder) == first
    assert len(read) == 3
    fill(folder, "d.png")
    look(folder)
    assert read[3:] == ["d.png"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "list"])
def test_a_damaged_memory_is_forgotten(
    tmp_path: Path, look: Callable[..., Survey], damage: str
) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.png")
    settle()
    before = fingerprints(look(folder))
    (memory,) = (tmp_path / "memory").iterdir()
    data = memory.read_bytes()
    flipped = data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
    memory.write_bytes({"cut": data[:-9], "flip": flipped, "empty": b"", "list": b"[1, 2]"}[damage])
    assert fingerprints(look(folder)) == before


def test_a_memory_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    folder = fill(tmp_path / "set", "a.png")
    assert (
        FolderSource(folder).survey(StampCache(tmp_path / "file" / "memory")).splits["all"].count
        == 1
    )


# Bad pictures


BAD = {
    "cut.jpg": (encode(picture(width=200, height=200), "JPEG")[:-500], "(?i)truncated"),
    "huge.png": (png(20_000, 20_000), "20000 x 20000 pixels, more than 100 million"),
    "text.jpg": (b"these are words", "not a JPEG, PNG or WebP picture"),
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
    assert lines[10:12] == ["  09.jpg: empty file", "  ... and 5 more"]


# A folder that changes while it is worked on


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
