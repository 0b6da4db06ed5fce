"""`on_bad_image: skip` leaves out what cannot be opened, in every reader; else both ways out."""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Said
from tests.datasets.conftest import encode, fill, needs_user, picture
from tests.datasets.left_out.conftest import set_data, write_shard
from tests.datasets.readers.archive_files import link, write_tar, write_zip
from transfer.datasets.readers import file_tree as tree_module

Plan = Callable[..., dict[str, Any]]
Refusal = Callable[..., str]
REMEDY = "Repair or remove them, or set `on_bad_image: skip` for this set."
LISTED_REMEDY = "Add them, or remove them from the list, or set `on_bad_image: skip` for this set."


@pytest.fixture
def skipped(invoke: Callable[..., Said], packing: Path) -> Callable[..., dict[str, Any]]:
    """Pack a set with `skip`; return its figures, its notes, and the note of the plan."""

    def pack(**data: Any) -> dict[str, Any]:
        words = set_data({**data, "on_bad_image": "skip"})
        planned = json.loads(invoke("status", packing, "--json", *words).out)["stages"]
        invoke("run", packing, *words)
        shown = json.loads(invoke("show", packing, "--json", *words).out)
        facts = next(stage for stage in shown if stage["uses"] == "images")
        note = next(stage["note"] for stage in planned if stage["uses"] == "images")
        return {**facts, "note": note}

    return pack


def broken(path: Path) -> None:
    path.symlink_to(path.parent / "gone.jpg")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("damage", "reason", "fault"),
    [
        (broken, "broken link", "No such file or directory"),
        (pipe, "unreadable file", "is not a regular file"),
        (loop, "unreadable file", "Too many levels of symbolic links"),
    ],
)
def test_a_folder(
    tmp_path: Path,
    refusal_of: Refusal,
    skipped: Callable[..., dict[str, Any]],
    damage: Callable[[Path], None],
    reason: str,
    fault: str,
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/1.png")
    damage(folder / "cat" / "x.jpg")
    message = refusal_of(folder=folder)
    assert f"cat/x.jpg: {fault}" in message
    assert REMEDY in message
    facts = skipped(folder=folder)
    assert facts["note"] == f"left out: 1 {reason} (cat/x.jpg)"
    assert facts["figures"] == {"images": 2, "skipped": 1, "left_out": {reason: 1}}
    assert f"cat/x.jpg: {fault}" in facts["notes"][0]


def test_a_class_of_broken_links_alone_is_named(
    tmp_path: Path, skipped: Callable[..., dict[str, Any]]
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/1.png")
    (folder / "owl").mkdir()
    broken(folder / "owl" / "1.jpg")
    facts = skipped(folder=folder)
    assert facts["note"].endswith("no images of the class owl (1 broken link (owl/1.jpg))")
    assert "no images are left of 1 class:\n  owl" in facts["notes"]


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_class_of_unreadable_members_alone_is_named(
    tmp_path: Path, skipped: Callable[..., dict[str, Any]], form: str
) -> None:
    path, files = tmp_path / f"set.{form}", {"cat/1.png": encode(picture())}
    if form == "tar":
        links = [link(f"dog/{row}.png", "/x.png") for row in range(3)]
        write_tar(path, files, *links)
        reason = "3 links (dog/0.png)"
    else:
        write_zip(path, files)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as archive:
            for row in range(3):
                archive.writestr(f"dog/{row}.png", encode(picture(row)))
        reason = "3 files of another compression (dog/0.png)"
    note = skipped(folder=path)["note"]
    assert note == f"left out: {reason}; no images of the class dog ({reason})"


def test_a_set_of_broken_links_alone_is_refused_at_planning(
    tmp_path: Path, refusal_of: Refusal
) -> None:
    (tmp_path / "set").mkdir()
    broken(tmp_path / "set" / "1.jpg")
    message = refusal_of(folder=tmp_path / "set", on_bad_image="skip")
    assert "holds 1 image, and none can be read: 1 broken link (1.jpg)" in message


def test_a_link_that_is_repaired_gives_other_images(
    tmp_path: Path, skipped: Callable[..., dict[str, Any]]
) -> None:
    folder = fill(tmp_path / "set", "1.png")
    broken(folder / "2.png")
    before = skipped(folder=folder)
    fill(folder, "gone.jpg")
    after = skipped(folder=folder)
    assert (before["figures"]["images"], after["figures"]["images"]) == (1, 3)
    assert before["key"] != after["key"]


def test_an_image_that_cannot_be_decoded_may_empty_a_class(
    tmp_path: Path, skipped: Callable[..., dict[str, Any]]
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/1.png")
    (folder / "cat" / "1.png").write_bytes(b"")
    facts = skipped(folder=folder)
    assert "no images are left of 1 class:\n  cat" in facts["notes"]


@needs_user
def test_a_file_and_a_folder_without_rights(
    tmp_path: Path, refusal_of: Refusal, skipped: Callable[..., dict[str, Any]]
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "cat/2.png", "dog/1.png")
    (folder / "cat" / "2.png").chmod(0)
    assert "cat/2.png: Permission denied" in refusal_of(folder=folder)
    assert skipped(folder=folder)["note"] == "left out: 1 file without rights (cat/2.png)"
    (folder / "dog").chmod(0)
    try:
        assert "set `on_bad_image: skip`" in refusal_of(folder=folder)
        note = skipped(folder=folder)["note"]
    finally:
        (folder / "dog").chmod(0o700)
    assert "1 folder without rights (dog)" in note
    assert "no images of the class dog" in note


def test_a_folder_that_cannot_be_listed(
    tmp_path: Path, refusal_of: Refusal, plan_of: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "set", "a/1.png", "b/2.png")
    listing = os.scandir

    def refuse(path: Path) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(tree_module.os, "scandir", refuse)
    assert "set `on_bad_image: skip` for this set" in refusal_of(folder=folder)
    assert plan_of(folder=folder, on_bad_image="skip")["note"] == (
        "left out: 1 folder without rights (b); "
        "no images of the class b (1 folder without rights (b))"
    )


def test_links_in_an_archive(
    tmp_path: Path, refusal_of: Refusal, skipped: Callable[..., dict[str, Any]]
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/1.png")
    broken(folder / "cat" / "x.jpg")
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(folder, arcname="set")
    message = refusal_of(folder=path)
    assert "'set/cat/x.jpg': it is a link" in message
    assert REMEDY in message
    facts = skipped(folder=path)
    assert facts["figures"] == {"images": 2, "left_out": {"link": 1}}


def test_a_damaged_file_in_a_zip(
    tmp_path: Path, refusal_of: Refusal, skipped: Callable[..., dict[str, Any]]
) -> None:
    files = {f"{kind}/1.png": encode(picture(number)) for number, kind in enumerate(("cat", "dog"))}
    path = write_zip(tmp_path / "set.zip", files, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(files["dog/1.png"]) + 20] ^= 1
    path.write_bytes(data)
    message = refusal_of(folder=path)
    assert "dog/1.png: its bytes do not match the archive's checksum" in message
    assert REMEDY in message
    assert skipped(folder=path)["figures"]["left_out"] == {"unreadable file": 1}


def test_samples_of_shards(
    tmp_path: Path, refusal_of: Refusal, skipped: Callable[..., dict[str, Any]]
) -> None:
    jpeg = encode(picture(), "JPEG")
    path = write_shard(tmp_path / "a.tar", {"1.jpg": jpeg, "1.cls": b"0", "2.cls": b"1"})
    with tarfile.open(path, "a") as archive:
        archive.addfile(link("3.jpg", "gone.jpg"))
    message = refusal_of(tar=path)
    assert "'3.jpg': it is a link" in message
    assert REMEDY in message
    facts = skipped(tar=path)
    assert facts["figures"] == {"images": 1, "left_out": {"link": 1, "unusable sample": 1}}
    assert "1 unusable sample (2: it has a label but no image)" in facts["note"]


CARD = """\
name: birds
title: birds
reader: files
layout: a list
files:
  splits:
    train: {list: list.csv, line: "{image},{class}"}
"""


def test_listed_images(
    tmp_path: Path, refusal_of: Refusal, skipped: Callable[..., dict[str, Any]]
) -> None:
    fill(tmp_path / "data" / "birds", "a.png", "b.png")
    (tmp_path / "data" / "birds.yaml").write_text(CARD, encoding="utf-8")
    lines = "a.png,wren\nb.png,robin\nc.png,wren\nd.png,owl\n"
    (tmp_path / "data" / "birds" / "list.csv").write_text(lines, encoding="utf-8")
    message = refusal_of(card="birds")
    assert "lacks 2 listed images:" in message
    assert "\n  list.csv, line 3: c.png\n" in message
    assert LISTED_REMEDY in message
    facts = skipped(card="birds")
    assert facts["note"] == (
        "left out: 2 missing files (c.png), 1 text file; "
        "no images of the class owl (1 missing file (d.png))"
    )
    assert (facts["figures"]["images"], facts["figures"]["skipped"]) == (2, 2)


def voc(folder: Path) -> Path:
    """Write a small set in the layout of VOC: 3 has no image, 5 no boxes, 6 damaged boxes."""
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    text = f"<annotation><object><name>cat</name>{box}</object></annotation>"
    ids = [f"{number:06}" for number in range(8)]
    for name in ids:
        if name != "000003":
            (folder / f"JPEGImages/{name}.jpg").write_bytes(encode(picture(), "JPEG"))
        if name != "000005":
            (folder / f"Annotations/{name}.xml").write_text(text[name == "000006" :])
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(ids))
    return folder


def test_images_and_annotations_of_voc(
    tmp_path: Path, refusal_of: Refusal, skipped: Callable[..., dict[str, Any]]
) -> None:
    data = {"card": "voc2007", "path": str(voc(tmp_path / "VOC2007"))}
    message = refusal_of(**data)
    assert "lacks 2 files" in message
    assert LISTED_REMEDY in message
    facts = skipped(**data)
    assert "left out: 2 missing files (JPEGImages/000003.jpg)" in facts["note"]
    assert (facts["figures"]["images"], facts["figures"]["skipped"]) == (5, 3)
    (note,) = facts["notes"]
    assert [line.split(":")[0].strip() for line in note.splitlines()[1:]] == [
        "000003",
        "000005",
        "000006",
    ]


@needs_user
@pytest.mark.parametrize(
    ("reader", "name"), [("folder", "set"), ("tar", "a.tar"), ("tar", "*.tar"), ("hdf5", "a.h5")]
)
def test_a_folder_above_the_set_without_rights(
    tmp_path: Path, refusal_of: Refusal, reader: str, name: str
) -> None:
    folder = fill(tmp_path / "locked" / "set", "cat/1.png").parent
    folder.chmod(0)
    try:
        message = refusal_of(**{reader: folder / name})
    finally:
        folder.chmod(0o700)
    assert f"{name}: cannot be read (Permission denied); allow {folder} to be entered" in message
