"""WebDataset shards, read without unpacking them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.conftest import encode, picture
from tests.datasets.miniature import Opened, settle
from tests.datasets.readers.archive_files import link, write_tar
from transfer.datasets.cards import Card
from transfer.datasets.readers import shard_samples as samples_module
from transfer.datasets.readers.base import Survey
from transfer.datasets.readers.webdataset import TarSource
from transfer.errors import BadImage, UsageError
from transfer.utils.stamp_cache import StampCache


def shard(
    path: Path, first: int, count: int = 3, suffix: str = "jpg", **label: Any
) -> dict[str, bytes]:
    """Write `count` samples; `cls=f` or `json=f` returns the label of a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    for number in range(first, first + count):
        key = f"n014/{number:06}"
        files[f"{key}.{suffix}"] = encode(picture(number), "JPEG" if suffix == "jpg" else "PNG")
        for kind, of in label.items():
            files[f"{key}.{kind}"] = of(number)
        files[f"{key}.txt"] = b"what it shows"
    write_tar(path, files)
    return files


def cls(number: int) -> bytes:
    return f"{number % 4}\n".encode()


def look(tmp_path: Path, place: Path, card: Card | None = None) -> tuple[TarSource, Survey]:
    source = TarSource(place, card)
    return source, source.survey(StampCache(tmp_path / "memory"))


def card(**tar: Any) -> Card:
    return Card.model_validate(
        {"name": "mine", "title": "m", "reader": "tar", "layout": "m", "tar": tar}
    )


@pytest.mark.parametrize(
    "pattern", ["train-{000..001}.tar", "train-*.tar", "train-{000,001}.tar", "{train}-00[01].tar"]
)
def test_shards_are_read_by_a_pattern_in_their_order(tmp_path: Path, pattern: str) -> None:
    written = shard(tmp_path / "s" / "train-000.tar", 0, cls=cls)
    written |= shard(tmp_path / "s" / "train-001.tar", 3, suffix="png", cls=cls)
    source, survey = look(tmp_path, tmp_path / "s" / pattern)
    assert {name: (split.count, split.labeled) for name, split in survey.splits.items()} == {
        "all": (6, True)
    }
    listing = source.listing("all")
    assert listing.ids == [f"train-00{row // 3}/n014/{row:06}" for row in range(6)]
    assert listing.labels == [0, 1, 2, 3, 0, 1]
    for row in range(6):
        assert listing.read(row) == written[f"n014/{row:06}.{'jpg' if row < 3 else 'png'}"]


def test_a_folder_of_shards_has_the_splits_that_they_are_called_by(tmp_path: Path) -> None:
    for name in ("train-000", "train-001", "val-000"):
        shard(tmp_path / "s" / f"{name}.tar", 0, cls=cls)
    source, survey = look(tmp_path, tmp_path / "s")
    assert {name: split.count for name, split in survey.splits.items()} == {"train": 6, "val": 3}
    assert len(source.listing("train").ids) == 6


def test_a_folder_a_split(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "train" / "0.tar", 0, cls=cls)
    shard(tmp_path / "s" / "unlabeled" / "0.tar", 0)
    _, survey = look(tmp_path, tmp_path / "s")
    assert {name: split.labeled for name, split in survey.splits.items()} == {
        "unlabeled": False,
        "train": True,
    }
    shard(tmp_path / "s" / "9.tar", 0)
    with pytest.raises(UsageError, match=r"holds both shards \(9.tar, ...\) and folders of splits"):
        look(tmp_path, tmp_path / "s")


def test_other_shards_of_a_folder_are_one_split(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "pictures-0.tar", 0)
    shard(tmp_path / "s" / "train-0.tar", 3)
    source, survey = look(tmp_path, tmp_path / "s")
    assert {name: split.count for name, split in survey.splits.items()} == {"all": 6}
    assert source.listing("all").labels is None


def test_labels_may_be_names_or_in_json(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", 0, cls=lambda number: b"dog" if number % 2 else "чай".encode())
    source, survey = look(tmp_path, tmp_path / "a.tar")
    assert survey.classes == ["dog", "чай"]
    assert source.listing("all").labels == [1, 0, 1]
    shard(
        tmp_path / "b.tar", 0, json=lambda number: json.dumps({"label": number, "size": 3}).encode()
    )
    source, survey = look(tmp_path, tmp_path / "b.tar")
    assert (survey.classes, source.listing("all").labels) == ([], [0, 1, 2])
    shard(
        tmp_path / "c.tar",
        0,
        json=lambda number: json.dumps({"breed": "ab"[number % 2], "label": 9}).encode(),
    )
    source, survey = look(tmp_path, tmp_path, card(splits={"train": "c.tar"}, label="json:breed"))
    assert (survey.classes, source.listing("train").labels) == (["a", "b"], [0, 1, 0])


def test_a_card_says_which_shards_are_which_split_and_where_labels_are(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "a-0.tar", 0, cls=cls)
    shard(tmp_path / "s" / "b" / "1.tar", 3, cls=cls)
    mine = card(splits={"train": "a-{0..0}.tar", "test": "b/*.tar"})
    mine = mine.model_copy(
        update={"classes": ["w", "x", "y", "z"], "splits": {"train": 4, "test": 3}}
    )
    dataset = Opened(mine, tmp_path / "s", tmp_path / "memory")
    assert dataset.listing("test").labels == [3, 0, 1]
    assert dataset.survey.classes == ["w", "x", "y", "z"]
    with pytest.raises(UsageError, match="are none of the 3 classes:\n  1/n014/000003: 3"):
        Opened(
            mine.model_copy(update={"classes": ["w", "x", "y"]}),
            tmp_path / "s",
            tmp_path / "memory",
        )
    with pytest.raises(UsageError, match="image set 'mine' is missing"):
        Opened(mine, tmp_path / "nowhere", tmp_path / "memory")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"1.jpg": b"x", "1.cls": b"0", "2.jpg": b"x"},
            "1 of 2 samples have no label:\n  set/2",
        ),
        (
            {"1.jpg": b"x", "1.cls": b"0", "2.cls": b"0"},
            "1 sample cannot be used:\n  2: it has a label but no image",
        ),
        ({"1.jpg": b"x", "1.cls": b"-1"}, "are none of the 1000000 classes:\n  set/1: -1"),
        (
            {"1.jpg": b"x", "1.cls": b"0", "2.jpg": b"x", "2.cls": b"dog"},
            "mix names and numbers",
        ),
        (
            {"1.jpg": b"x", "1.png": b"x"},
            "it has jpg and png: choose with `tar: {image: jpg}` in a card",
        ),
        ({"1.jpg": b"x", "1.cls": b"\xff"}, "1: .*utf-8"),
        ({"1.jpg": b"x", "1.json": b"{"}, "1: .*Expecting"),
        ({"1.jpg": b"x", "1.json": b"[" * 100_000}, "1: .*"),
        ({"1.jpg": b"x", "1.json": b'{"label": [1]}'}, "neither a whole number nor a name"),
        ({"1.jpg": b"x", "1.json": b'{"label": true}'}, "neither a whole number nor a name"),
        ({"1.jpg": b"x", "1.cls": bytes(1 << 21)}, "too large for a label"),
        ({"read-me.txt": b"x"}, "no images"),
        ({"../1.jpg": b"x"}, "its path leads out of the set"),
        ({"/1.jpg": b"x"}, "its path is absolute"),
    ],
)
def test_faulty_samples_are_told(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        look(tmp_path, write_tar(tmp_path / "set.tar", files))


def test_links_in_shards_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "set.tar", {"1.jpg": b"x"}, link("2.jpg", "/etc/passwd"))
    with pytest.raises(UsageError, match=r"'2.jpg': it is a link"):
        look(tmp_path, path)


def test_a_sample_of_picture_and_mask_is_read_by_what_the_card_says(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "set.tar",
        {"1.jpg": b"picture", "1.png": b"mask", "1.seg.png": b"another", "notes": b"x"},
    )
    source, _ = look(tmp_path, tmp_path, card(splits={"all": "set.tar"}, image="jpg"))
    assert source.listing("all").read(0) == b"picture"


@pytest.mark.parametrize("cut", [10, 700, 1800])
def test_a_truncated_shard_is_told_with_its_name(tmp_path: Path, cut: int) -> None:
    shard(tmp_path / "set-0.tar", 0)
    shard(tmp_path / "set-1.tar", 0)
    os.truncate(tmp_path / "set-1.tar", cut)
    with pytest.raises(UsageError, match=r"set-1.tar: not a readable tar archive"):
        look(tmp_path, tmp_path / "set-{0..1}.tar")


def test_shards_are_read_once_and_a_changed_byte_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, index = [], samples_module.tar_index
    monkeypatch.setattr(
        samples_module, "tar_index", lambda path, skip: (read.append(path.name), index(path))[1]
    )
    for number in range(2):
        shard(tmp_path / f"s-{number}.tar", 3 * number, cls=cls)
    settle()
    place = tmp_path / "s-{0..1}.tar"
    source, before = look(tmp_path, place)
    source.listing("all")
    assert look(tmp_path, place)[1] == before
    assert read == ["s-0.tar", "s-1.tar"]
    path = tmp_path / "s-1.tar"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[data.index(b"what it shows")] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = look(tmp_path, place)[1]
    assert after.splits["all"].fingerprint != before.splits["all"].fingerprint
    assert after.changes == ["s-1.tar has changed"]
    assert read == ["s-0.tar", "s-1.tar", "s-1.tar"]


def test_a_shard_that_changes_after_it_was_listed_gives_a_message(tmp_path: Path) -> None:

    shard(tmp_path / "set.tar", 0)
    source, _ = look(tmp_path, tmp_path / "set.tar")
    listing = source.listing("all")
    os.truncate(tmp_path / "set.tar", 600)
    with pytest.raises(BadImage, match="the archive is truncated"):
        listing.read(2)
