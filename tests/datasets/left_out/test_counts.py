"""Files that are not taken are counted by reason: in the plan, the run and `show`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Said
from tests.datasets.conftest import encode, fill, picture, split_of, write_h5
from tests.datasets.left_out.conftest import FORMS, as_it_is, set_data, write_shard

Plan = Callable[..., dict[str, Any]]
JPEG = encode(picture(), "JPEG")


@pytest.mark.parametrize("form", FORMS)
def test_a_plan_a_run_and_show_count_what_is_left_out(
    tmp_path: Path, invoke: Callable[..., Said], packing: Path, form: Callable[[Path], Path]
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/2.JpEg", "dog/3.png")
    fill(folder, "cat/x.cr2", "cat/y.CR2", "dog/z.mp4", "owl/1.cr2", "dog/none", "cat/2.txt")
    fill(folder, "cat/.DS_Store", "cat/Thumbs.db", "@eaDir/1.png/2.png", ".git/x.png")
    data = set_data({"folder": form(folder)})
    line = (
        "left out: 3 .cr2, 1 .mp4, 1 file without a suffix (not read), 1 hidden file, "
        "1 hidden folder, 1 system file, 1 system folder, 1 text file; "
        "no images of the class owl (1 .cr2)"
    )
    assert line in invoke("run", packing, "-n", *data).out
    ran = invoke("run", packing, *data).out
    assert "images 3, left_out 3 .cr2 + 1 .mp4 + 1 file without a suffix" in ran
    assert "lost_classes owl (1 .cr2)" in ran
    shown = json.loads(invoke("show", packing, "--json", *data).out)
    figures = next(stage["figures"] for stage in shown if stage["uses"] == "images")
    assert figures == {
        "images": 3,
        "left_out": {
            ".cr2": 3,
            ".mp4": 1,
            "file without a suffix": 1,
            "hidden file": 1,
            "hidden folder": 1,
            "system file": 1,
            "system folder": 1,
            "text file": 1,
        },
        "lost_classes": ["owl (1 .cr2)"],
    }
    assert "left_out 3 .cr2 + 1 .mp4" in invoke("show", packing, *data).out
    assert line in invoke("run", packing, "-n", *data).out  # also of what is cached


def test_two_sets_of_the_same_images_show_what_each_leaves_out(
    tmp_path: Path, invoke: Callable[..., Said], packing: Path
) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name, "cat/1.png")
    fill(tmp_path / "a", "cat/1.cr2", "owl/1.cr2")
    (tmp_path / "b" / "owl").mkdir()
    invoke("run", packing, *set_data({"folder": tmp_path / "a"}))
    for name, text in (("a", "left_out 2 .cr2, lost_classes owl (1 .cr2)"), ("b", "owl (empty)")):
        out = invoke("show", packing, *set_data({"folder": tmp_path / name})).out
        assert text in out
        assert (".cr2" in out) == (name == "a")


def test_nothing_is_noted_where_all_is_taken(tmp_path: Path, plan_of: Plan) -> None:
    folder = fill(tmp_path / "set", "a.png", "b.JPG", "c.webp", "d.jpg ", "e.png.")
    assert plan_of(folder=folder)["note"] == ""


@pytest.mark.parametrize("form", FORMS)
def test_folders_and_files_of_systems_are_passed_over(
    tmp_path: Path, plan_of: Plan, form: Callable[[Path], Path]
) -> None:
    folders = ("@tmp", "@sharebin", "@DownloadStation", "_gsdata_", "Recycle Bin")
    names = [*(f"{name}/1.png" for name in folders), "cat/~$1.png", "cat/1@SynoResource.png"]
    note = plan_of(folder=form(fill(tmp_path / "set", "cat/1.png", "dog/1.png", *names)))["note"]
    assert note == "left out: 5 system folders, 2 system files"


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_class_is_named(
    tmp_path: Path, plan_of: Plan, form: Callable[[Path], Path]
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/2.png")
    (folder / "owl").mkdir()
    note = plan_of(folder=form(folder))["note"]
    assert note == "no images of the class owl (empty)"


def test_many_kinds_and_classes_are_shortened(tmp_path: Path, plan_of: Plan) -> None:
    folder = fill(tmp_path / "set", *(f"c{number:02}/1.k{number}" for number in range(20)))
    fill(folder, "cat/1.png")
    note = plan_of(folder=folder)["note"]
    assert "12 more kinds (not read)" in note
    assert "no images of the classes c00 (1 .k0), c01" in note
    assert note.endswith("15 more")


def test_a_folder_without_images_says_what_it_holds(
    tmp_path: Path, refusal_of: Callable[..., str]
) -> None:
    folder = fill(tmp_path / "set", "a", "b", "c.cr2", "d.json")
    message = refusal_of(folder=folder)
    assert "it holds 2 files without a suffix, 1 .cr2, 1 text file" in message


def test_what_lies_beside_splits_is_counted_for_each(tmp_path: Path, plan_of: Plan) -> None:
    folder = fill(tmp_path / "set", "train/a/1.png", "train/a/2.cr2", "test/a/1.png", "x.cr2")
    assert plan_of(folder=folder)["note"] == "left out: 2 .cr2 (not read)"
    assert plan_of(folder=folder, split="test")["note"] == "left out: 1 .cr2 (not read)"


FOLDERS_CARD = """\
name: pets
title: pets
reader: files
layout: folders
files:
  splits:
    train: {folders: train}
    test: {folders: test}
"""


@pytest.mark.parametrize("form", FORMS)
def test_what_lies_beside_the_folders_of_a_card_is_counted(
    tmp_path: Path, plan_of: Plan, form: Callable[[Path], Path]
) -> None:
    names = [f"{split}/{kind}/1.png" for split in ("train", "test") for kind in ("cat", "dog")]
    loose = ["train/1.png", "train/2.png", "train/x.cr2", "3.png", "extra/4.png", "train/@eaDir/1"]
    path = form(fill(tmp_path / "set", *names, *loose))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pets.yaml").write_text(FOLDERS_CARD, encoding="utf-8")
    note = plan_of(card="pets", path=path)["note"]
    assert note.startswith("left out: 1 .cr2 (not read), 3 loose images (train/1.png), ")
    assert note.endswith("1 other folder (extra), 1 system folder")


def test_without_labels_no_class_is_lost(tmp_path: Path, plan_of: Plan) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "owl/1.cr2")
    assert plan_of(folder=folder, labels=False)["note"] == "left out: 1 .cr2 (not read)"


def test_shards_count_files_of_other_kinds_and_files_beside_them(
    tmp_path: Path, plan_of: Plan
) -> None:
    files = {"1.jpg": JPEG, "1.cls": b"cat", "1.txt": b"x", "1.seg.png": JPEG, "2.cr2": b"x"}
    files |= {"2.cls": b"owl", "3.cr2": b"x", "._1.jpg": b"x", "3.cls": b"cat"}
    write_shard(tmp_path / "set" / "a.tar", files)
    fill(tmp_path / "set", "._a.tar", "b.tar.gz", "other/c.tar", "notes.md", "@eaDir/a.tar")
    assert plan_of(tar=tmp_path / "set")["note"] == (
        "left out: 2 .cr2, 1 .gz, 1 .seg.png (not read), 1 other folder (other), 2 hidden files, "
        "2 text files, 1 system folder; no images of the class owl (1 .cr2)"
    )
    assert plan_of(tar=tmp_path / "set" / "*.tar")["note"].startswith("left out: 2 .cr2")


def test_shards_without_images_say_what_they_hold(
    tmp_path: Path, refusal_of: Callable[..., str]
) -> None:
    write_shard(tmp_path / "set.tar", {"1.cr2": b"x", "2.cr2": b"x"})
    assert "no images; there are 2 .cr2" in refusal_of(tar=tmp_path / "set.tar")


def test_other_members_of_an_hdf5_file_are_counted(tmp_path: Path, plan_of: Plan) -> None:
    path = write_h5(tmp_path / "set.h5", train=split_of(3), images={"x": [1]})
    note = plan_of(hdf5=path)["note"]
    assert note == "left out: 1 group"


CARD = """\
name: birds
title: birds
reader: files
layout: folders
files:
  select: %s
  splits:
    train: {folders: train}
    unlabeled: {pictures: more}
"""


def test_a_card_counts_what_its_folders_hold(
    tmp_path: Path, plan_of: Plan, invoke: Callable[..., Said]
) -> None:
    (tmp_path / "data").mkdir()
    card = tmp_path / "data" / "birds.yaml"
    card.write_text(CARD % "false", encoding="utf-8")
    fill(tmp_path / "data" / "birds", "train/a/1.png", "train/a/2.cr2", "train/owl/1.cr2")
    fill(tmp_path / "data" / "birds", "more/1.png", "more/2.mp4", "more/lost+found/3.png")
    note = plan_of(card="birds", split="train")["note"]
    assert note == "left out: 2 .cr2 (not read); no images of the class owl (1 .cr2)"
    note = plan_of(card="birds")["note"]
    assert note == "left out: 1 .mp4 (not read), 1 system folder"
    card.write_text(CARD.replace("select: %s", "select: true\n  codes: [a]"), encoding="utf-8")
    note = plan_of(card="birds", split="train")["note"]
    assert note == "left out: 1 .cr2 (not read), 1 unselected class folder"


def test_images_that_no_list_names_are_counted(tmp_path: Path, plan_of: Plan) -> None:
    (tmp_path / "data").mkdir()
    text = CARD % "false"
    text = text.replace("{folders: train}", "{list: list.csv, line: '{image},{class}'}")
    (tmp_path / "data" / "birds.yaml").write_text(text, encoding="utf-8")
    fill(tmp_path / "data" / "birds", "a.png", "b.png", "c.png", "d.cr2", "more/1.png")
    (tmp_path / "data" / "birds" / "list.csv").write_text("a.png,owl\n", encoding="utf-8")
    note = plan_of(card="birds", split="train")["note"]
    assert note == "left out: 1 .cr2 (not read), 2 unlisted images (b.png), 1 text file"
    assert plan_of(card="birds")["note"] == ""


SYSTEM = ["@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN", "System Volume Information"]


@pytest.mark.parametrize("name", [*SYSTEM, "__MACOSX", "__pycache__", ".ipynb_checkpoints"])
@pytest.mark.parametrize("form", FORMS)
def test_folders_of_systems_are_no_classes(
    tmp_path: Path, plan_of: Plan, form: Callable[[Path], Path], name: str
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/1.png", f"{name}/x.png", f"cat/{name}/y.png")
    kind = "hidden" if name.startswith(".") else "system"
    assert plan_of(folder=form(folder))["note"] == f"left out: 2 {kind} folders"


def test_links_that_lead_nowhere_or_above_are_counted(tmp_path: Path, plan_of: Plan) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/1.png")
    (folder / "owl").symlink_to(tmp_path / "gone")
    (folder / "cat" / "up").symlink_to(folder)
    assert plan_of(folder=as_it_is(folder))["note"] == (
        "left out: 1 broken link (owl), 1 link loop (cat/up)"
    )
