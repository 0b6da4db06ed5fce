"""Reader `files` with a user's card: names, links, faults and fingerprints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.conftest import encode, picture
from tests.datasets.miniature import Opened, jpegs, opened, settle, text
from tests.datasets.readers.listed_sets import (
    SPRINGER,
    TENCH,
    imagenet,
    labeled,
    own,
)
from transfer.datasets.readers import file_digests as digests_module
from transfer.errors import UsageError


def test_names_with_spaces_and_other_scripts_are_read(tmp_path: Path) -> None:
    names = ["märz 2020/ein bild.png", "写真/猫, schwarz.png", "عربي/صورة.png"]
    jpegs(tmp_path / "set", *names)
    classes = ["eine Klasse", "猫", "قط"]
    text(
        tmp_path / "set" / "liste.tsv",
        "bild\tklasse",
        *(f"./{a}\t{b}" for a, b in zip(names, classes, strict=True)),
    )
    card = own(splits={"train": {"list": "liste.tsv", "line": "{image}\t{class}", "header": True}})
    dataset = Opened(card, tmp_path / "set", tmp_path / "memory")
    assert labeled(dataset, "train") == dict(zip(names, classes, strict=True))
    with_bom = (tmp_path / "set" / "liste.tsv").read_text(encoding="utf-8").replace("\n", "\r\n")
    (tmp_path / "set" / "liste.tsv").write_bytes(b"\xef\xbb\xbf" + with_bom.encode())
    assert Opened(card, tmp_path / "set", tmp_path / "memory").prints() == dataset.prints()


def test_links_that_loop_end_and_lead_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    jpegs(folder, "train/a/1.png", "train/b/1.png", "val/a/1.png")
    (folder / "train" / "a" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "train" / "a" / "self").symlink_to(folder / "train" / "a", target_is_directory=True)
    (folder / "train" / "a" / "loop.png").symlink_to(folder / "train" / "a" / "loop.png")
    card = own(splits={"train": {"folders": "train"}, "val": {"folders": "val"}})
    with pytest.raises(
        UsageError, match=r"1 file cannot be read:\n  train/a/loop.png: Too many levels"
    ):
        _ = Opened(card, folder, tmp_path / "memory").survey.splits["train"]
    (folder / "train" / "a" / "loop.png").unlink()
    dataset = Opened(card, folder, tmp_path / "memory")
    assert dataset.listing("train").ids == ["train/a/1.png", "train/b/1.png"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"list": "l.txt", "image": "{name}"}, "needs 'name', which `line` does not have"),
        ({"list": "l.txt", "line": "{image} {image}"}, "invalid template"),
        ({"list": "missing.txt"}, "image set 'mine' is missing: .* has no missing.txt"),
        ({"list": "l.txt", "image": "nowhere/{image}"}, "has no nowhere/"),
        ({"folders": "nothing"}, "has no nothing/ with a folder for each class"),
        ({"pictures": "nothing"}, "has no nothing/"),
        ({"pictures": "empty"}, "holds no images of the split 'train'"),
        ({"list": "bytes.txt"}, "is not a text file in UTF-8"),
    ],
)
def test_a_card_that_does_not_fit_its_files_is_told(
    tmp_path: Path, part: dict[str, Any], message: str
) -> None:
    jpegs(tmp_path / "set", "1.png", "a/1.png")
    (tmp_path / "set" / "empty").mkdir()
    text(tmp_path / "set" / "l.txt", "1.png")
    (tmp_path / "set" / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=message):
        _ = Opened(
            own(splits={"train": part}), tmp_path / "set", tmp_path / "memory"
        ).survey.splits["train"]


@pytest.mark.parametrize(
    "change", ["byte", "label", "order", "name", "class elsewhere", "other split"]
)
def test_the_fingerprint_tells_changes_and_nothing_else(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "set"
    names = [f"i/{number}.png" for number in range(4)]
    jpegs(folder, *names, "j/1.png")
    text(folder / "train.txt", *(f"{name} {'ab'[number % 2]}" for number, name in enumerate(names)))
    text(folder / "test.txt", "j/1.png a")
    line = {"line": "{image} {class}"}
    card = own(
        splits={"train": {"list": "train.txt", **line}, "test": {"list": "test.txt", **line}}
    )
    settle()
    before = Opened(card, folder, tmp_path / "memory").prints()
    lines = (folder / "train.txt").read_text().splitlines()
    if change == "byte":
        status, data = (folder / names[2]).stat(), bytearray((folder / names[2]).read_bytes())
        data[-30] ^= 1
        (folder / names[2]).write_bytes(data)
        os.utime(folder / names[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "label":
        text(folder / "train.txt", lines[0].replace(" a", " b"), *lines[1:])
    elif change == "order":
        text(folder / "train.txt", *reversed(lines))
    elif change == "name":
        (folder / names[3]).rename(folder / "i/new.png")
        text(folder / "train.txt", *lines[:3], "i/new.png b")
    elif change == "class elsewhere":
        text(folder / "test.txt", "j/1.png A")  # sorted before the others: their labels move
    else:
        (folder / "j/1.png").write_bytes(encode(picture(77)))
    dataset = Opened(card, folder, tmp_path / "memory")
    after = dataset.prints()
    assert (after["train"] == before["train"]) == (change == "other split")
    assert (after["test"] == before["test"]) == (change not in ("class elsewhere", "other split"))
    if change == "byte":
        assert dataset.survey.changes == ["i/2.png has changed"]


def test_images_are_read_once_and_only_those_of_the_splits_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, digest = [], digests_module._digest
    monkeypatch.setattr(
        digests_module, "_digest", lambda tree, name: (read.append(name), digest(tree, name))[1]
    )
    imagenet(tmp_path / "imagenet")
    jpegs(tmp_path / "imagenet", f"val/{SPRINGER}/1.JPEG", f"val/{SPRINGER}/2.JPEG")
    text(tmp_path / "imagenet" / "1percent.txt", f"{SPRINGER}_99.JPEG")
    settle()
    dataset = opened("imagenet", tmp_path / "imagenet")
    _ = dataset.survey.splits["val"]
    assert sorted(read) == [f"val/{SPRINGER}/1.JPEG", f"val/{SPRINGER}/2.JPEG"]
    _ = dataset.survey.splits["train"], dataset.survey.splits["train_1percent"]
    assert len(read) == 7
    prints = dataset.prints()
    again = opened("imagenet", tmp_path / "imagenet")
    assert again.prints() == prints
    assert len(read) == 7
    (tmp_path / "imagenet" / "train" / SPRINGER / f"{SPRINGER}_1.JPEG").unlink()
    jpegs(tmp_path / "imagenet", f"train/{TENCH}/new.JPEG")
    changed = opened("imagenet", tmp_path / "imagenet")
    _ = changed.survey.splits["train"]
    assert changed.survey.changes == [
        f"train/{SPRINGER}/{SPRINGER}_1.JPEG was removed",
        f"train/{TENCH}/new.JPEG was added",
    ]
    assert len(read) == 8


def test_a_long_first_reading_that_is_interrupted_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpegs(tmp_path / "set", *(f"train/a/{number}.png" for number in range(6)))
    settle()
    card = own(splits={"train": {"folders": "train"}})
    monkeypatch.setattr(digests_module, "READ_AT_ONCE", 2)
    monkeypatch.setattr(digests_module, "SAVE_EVERY", 0.0)
    read, digest = [], digests_module._digest

    def stop_at_the_fifth(tree: Any, name: str) -> Any:
        if name.endswith("4.png") and "again" not in read:
            raise KeyboardInterrupt
        read.append(name)
        return digest(tree, name)

    monkeypatch.setattr(digests_module, "_digest", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        _ = Opened(card, tmp_path / "set", tmp_path / "memory").survey.splits["train"]
    read[:] = ["again"]
    assert Opened(card, tmp_path / "set", tmp_path / "memory").survey.splits["train"].count == 6
    assert read == ["again", "train/a/4.png", "train/a/5.png"]
