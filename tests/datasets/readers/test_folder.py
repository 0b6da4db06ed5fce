"""Folders of images: flat, of classes and of splits; links and archives."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.datasets.conftest import fill
from transfer.artifacts import Images
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers.base import Survey
from transfer.datasets.readers.folder import FolderSource
from transfer.errors import UsageError


def test_a_flat_folder_is_one_split_without_labels(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    survey = survey_folder(fill(tmp_path / "set", "b.png", "a.jpg", "c.WEBP"))
    assert (survey.splits["all"].count, survey.splits["all"].labeled, survey.classes) == (
        3,
        False,
        [],
    )
    assert FolderSource(tmp_path / "set").listing("all").ids == ["a.jpg", "b.png", "c.WEBP"]


def test_a_folder_a_class_is_one_split_with_labels_in_the_order_of_the_names(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "dog/1.png", "cat/2.png", "cat/deep/er/3.png")
    assert survey_folder(folder).classes == ["cat", "dog"]
    listing = FolderSource(folder).listing("all")
    assert dict(zip(listing.ids, listing.labels or [], strict=True)) == {
        "cat/2.png": 0,
        "cat/deep/er/3.png": 0,
        "dog/1.png": 1,
    }


def test_a_folder_a_split_has_the_classes_of_all_splits(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(
        tmp_path / "set", "unlabeled/x.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"
    )
    survey = survey_folder(folder)
    assert {name: (split.count, split.labeled) for name, split in survey.splits.items()} == {
        "unlabeled": (1, False),
        "train": (1, True),
        "test": (2, True),
    }
    assert survey.classes == ["a", "b"]
    assert FolderSource(folder).listing("train").labels == [1]
    assert FolderSource(folder).listing("test").ids == ["test/a/1.png", "test/b/1.png"]


def test_without_labels_subfolders_are_no_classes(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "a/1.png", "2.png")
    assert not survey_folder(folder, labeled=False).splits["all"].labeled
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
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    fill(tmp_path / "set", "a.png", ".b.png", ".hidden/c.png", "notes.txt", "x.jpg/.keep")
    assert survey_folder(tmp_path / "set").splits["all"].count == 1


def test_a_folder_called_like_a_picture_is_a_folder(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    survey = survey_folder(fill(tmp_path / "set", "x.jpg/1.png"))
    assert survey.classes == ["x.jpg"]


def test_links_to_folders_are_followed_and_loops_end(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    fill(tmp_path / "elsewhere", "1.png", "2.png")
    folder = fill(tmp_path / "set", "cat/1.png")
    (folder / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "cat" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "cat" / "self").symlink_to(folder / "cat", target_is_directory=True)
    (tmp_path / "elsewhere" / "top").symlink_to(tmp_path / "set", target_is_directory=True)
    survey = survey_folder(folder)
    assert survey.classes == ["cat", "dog"]
    assert survey.splits["all"].count == 3


def test_a_link_that_leads_to_itself_is_told_where_it_is_called_like_a_picture(
    tmp_path: Path, survey_folder: Callable[..., Survey]
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/1.png")
    (folder / "cat" / "round").symlink_to(folder / "cat" / "round")
    assert survey_folder(folder).splits["all"].count == 2
    (folder / "cat" / "round.png").symlink_to(folder / "cat" / "round.png")
    with pytest.raises(UsageError, match=r"cat/round.png: Too many levels of symbolic links"):
        survey_folder(folder)


@pytest.mark.parametrize("form", ["zip", "stored zip", "tar"])
@pytest.mark.parametrize("top", ["photos/", ""])
def test_an_archive_of_a_folder_is_that_folder(
    tmp_path: Path,
    survey_folder: Callable[..., Survey],
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
    assert survey_folder(path) == survey_folder(folder)
    assert FolderSource(path).listing("train").ids == names[:2]
    assert (
        packed(plan("train", folder=path), "a").pixels
        == packed(plan("train", folder=folder), "b").pixels
    ).all()
