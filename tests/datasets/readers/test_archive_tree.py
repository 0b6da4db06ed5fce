"""Zip and tar archives: read without unpacking; damaged and crafted ones are refused."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.conftest import encode, picture
from tests.datasets.miniature import settle
from tests.datasets.readers.archive_files import CRAFTED, FILES, write_tar, write_zip
from transfer.datasets.readers.archive_tree import ArchiveTree
from transfer.datasets.readers.folder import FolderSource
from transfer.errors import BadImage, UsageError
from transfer.utils.stamp_cache import StampCache


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_is_read_in_each_of_its_forms(tmp_path: Path, form: int) -> None:
    long = "a folder of a long name/" * 5 + "cat/" + "x" * 90 + ".png"
    files = FILES if form == tarfile.USTAR_FORMAT else {**FILES, long: encode(picture(9))}
    tree = ArchiveTree(write_tar(tmp_path / "set.tar", files, form=form))
    assert tree.files() == sorted(files)
    assert {name: tree.read(name) for name in files} == files
    assert tree.folders("") == sorted({name.partition("/")[0] for name in files})
    assert tree.below("dog").files() == ["2.jpg", "ü 3.png"]
    assert tree.below("dog").read("2.jpg") == FILES["dog/2.jpg"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_packed_or_not(tmp_path: Path, packing: int) -> None:
    tree = ArchiveTree(
        write_zip(tmp_path / "set.zip", {**FILES, "__MACOSX/._1.png": b"x", "dog/": b""}, packing)
    )
    assert {name: tree.read(name) for name in tree.files()} == {**FILES}
    assert tree.is_folder("dog")
    assert not tree.is_file("dog/9.png")
    with pytest.raises(OSError, match="No such file"):
        tree.read("dog/9.png")


@pytest.mark.parametrize("craft", CRAFTED, ids=lambda craft: craft.__name__)
def test_a_crafted_or_damaged_archive_is_refused(
    tmp_path: Path, craft: Callable[[Path], Path]
) -> None:
    path = craft(tmp_path / "set")
    with pytest.raises(UsageError, match=CRAFTED[craft]) as error:
        FolderSource(path).survey(StampCache(tmp_path / "memory"))
    assert str(path) in str(error.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "set.tar", {os.fsdecode(b"caf\xe9.png"): b"x"}, form=tarfile.GNU_FORMAT
    )
    with pytest.raises(UsageError, match=r"caf\\udce9.png': its name is not valid UTF-8"):
        ArchiveTree(path)


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_any_damage_to_an_archive_gives_a_message_or_images(tmp_path: Path, form: str) -> None:
    write = write_zip if form == "zip" else write_tar
    whole = write(tmp_path / f"set.{form}", FILES).read_bytes()
    path = tmp_path / f"damaged.{form}"
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[draw.integers(len(whole))] ^= 1 << draw.integers(8)
        path.write_bytes(damaged)
        try:
            tree = ArchiveTree(path)
            for name in tree.files():
                tree.read(name)
        except (UsageError, BadImage):
            refused += 1
    assert refused > 30


def test_an_image_of_a_zip_that_is_damaged_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", FILES, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(FILES["dog/2.jpg"]) + 20] ^= 1
    path.write_bytes(data)
    tree = ArchiveTree(path)
    with pytest.raises(BadImage, match="do not match the archive's checksum"):
        tree.read("dog/2.jpg")
    assert tree.read("cat/1.png") == FILES["cat/1.png"]
    with pytest.raises(UsageError, match=r"dog/2.jpg: its bytes do not match"):
        FolderSource(path).survey(StampCache(tmp_path / "memory"))


def test_a_file_that_claims_more_than_it_holds_fills_no_memory(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"1.png": bytes(1000)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadImage, match="2,147,483,648 bytes, more than an image has"):
        ArchiveTree(path).read("1.png")
    data[at : at + 4] = (900).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadImage, match="do not match the archive's checksum"):
        ArchiveTree(path).read("1.png")


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_changed_byte_in_an_archive_changes_the_fingerprint(tmp_path: Path, form: str) -> None:
    write = write_zip if form == "zip" else write_tar

    def look() -> str:
        return FolderSource(path).survey(StampCache(tmp_path / "memory")).splits["all"].fingerprint

    path = write(tmp_path / f"set.{form}", FILES)
    settle()
    before = look()
    status = path.stat()
    changed = bytearray(FILES["cat/1.png"])
    changed[-20] ^= 1
    write(path, {**FILES, "cat/1.png": bytes(changed)})
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = look()
    assert after != before
    write(path, FILES)
    assert look() == before
