"""Names as systems write them: Unicode forms, backslashes, several dots, numbers, hidden cards."""

from __future__ import annotations

import io
import json
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Said
from tests.datasets.conftest import encode, fill, picture, split_of, write_h5
from tests.datasets.left_out.conftest import FORMS, PACKING, as_it_is, as_tar, set_data, write_shard
from tests.datasets.left_out.test_split_names import SCORING
from transfer.artifacts import Images

Packed = Callable[..., dict[str, Images]]
JPEG = encode(picture(), "JPEG")
COMPOSED = unicodedata.normalize("NFC", "café")
DECOMPOSED = unicodedata.normalize("NFD", "café")


@pytest.fixture
def packed_of(invoke: Callable[..., Said], tmp_path: Path, packing: Path) -> Packed:
    """Pack the split `unlabeled`, or train and test with `scored=True`; return each by its name."""

    def pack(scored: bool = False, **data: Any) -> dict[str, Images]:
        file = packing
        if scored:
            file = tmp_path / "scoring.yaml"
            file.write_text(SCORING, encoding="utf-8")
        words = set_data(data)
        stages = json.loads(invoke("status", file, "--json", *words).out)["stages"]
        packs = [stage for stage in stages if stage["uses"] == "images"]
        invoke("run", file, *(stage["stage"] for stage in packs), *words)
        return {stage["stage"].rpartition("/")[2]: Images(stage["folder"]) for stage in packs}

    return pack


def classes_of(images: Images) -> dict[str, int]:
    """Return how many images each class has."""
    assert images.labels is not None
    names = [images.classes[label] for label in images.labels.tolist()]
    return {name: names.count(name) for name in images.classes}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("written", [COMPOSED, DECOMPOSED])
def test_a_class_in_two_forms_of_unicode_is_the_same(
    tmp_path: Path, packed_of: Packed, form: Callable[[Path], Path], written: str
) -> None:
    names = [f"train/{DECOMPOSED}/{row}.png" for row in range(12)]
    names += [f"train/{kind}/{row}.png" for kind in ("dog", "owl") for row in range(12)]
    names += [f"test/{COMPOSED}/1.png", f"test/{COMPOSED}/2.png", "test/dog/1.png"]
    path = form(fill(tmp_path / "set", *names))
    images = packed_of(scored=True, folder=path, classes=[written, "dog"])
    assert classes_of(images["train"]) == {COMPOSED: 12, "dog": 12}
    assert classes_of(images["test"]) == {COMPOSED: 2, "dog": 1}
    assert f"train/{DECOMPOSED}/1.png" in images["train"].ids  # as the disk has it


def test_both_forms_in_the_same_folder(tmp_path: Path, packed_of: Packed) -> None:
    names = [f"{DECOMPOSED}/1.png", f"{COMPOSED}/1.png", "dog/A.png", "dog/a.PNG"]
    images = packed_of(folder=fill(tmp_path / "set", *names))["all"]
    assert sorted(images.ids) == sorted(names)
    assert classes_of(images) == {COMPOSED: 2, "dog": 2}


def test_labels_of_shards_and_classes_of_hdf5(tmp_path: Path, packed_of: Packed) -> None:
    files = {"1.jpg": JPEG, "1.cls": DECOMPOSED.encode(), "2.jpg": JPEG, "2.cls": b"dog"}
    files |= {"3.jpg": JPEG, "3.json": json.dumps({"label": COMPOSED}).encode()}
    write_shard(tmp_path / "a.tar", files)
    assert classes_of(packed_of(tar=tmp_path / "a.tar")["all"]) == {COMPOSED: 2, "dog": 1}
    attributes = {"class_names": json.dumps([DECOMPOSED, "dog"])}
    write_h5(tmp_path / "a.h5", all=split_of(4), attributes=attributes)
    images = packed_of(hdf5=tmp_path / "a.h5", classes=[COMPOSED])["all"]
    assert classes_of(images) == {COMPOSED: 2}


CARD = """\
name: birds
title: birds
reader: files
layout: a list
classes: [%s, "dog"]
files:
  splits:
    train: {list: list.csv, line: "{image},{class}"}
    test: {folders: test}
"""


def test_lists_folders_and_classes_of_a_card(tmp_path: Path, packed_of: Packed) -> None:
    place = tmp_path / "data" / "birds"
    fill(place, "a.png", "b.png", f"test/{DECOMPOSED}/1.png", "test/dog/1.png")
    (place / "list.csv").write_text(f"a.png,{DECOMPOSED}\nb.png,dog\n", encoding="utf-8")
    (tmp_path / "data" / "birds.yaml").write_text(CARD % COMPOSED, encoding="utf-8")
    assert classes_of(packed_of(card="birds", split="train")["train"]) == {COMPOSED: 1, "dog": 1}
    assert classes_of(packed_of(card="birds", split="test")["test"]) == {COMPOSED: 1, "dog": 1}


def test_names_in_a_list_that_another_system_wrote(tmp_path: Path, packed_of: Packed) -> None:
    place = tmp_path / "data" / "birds"
    fill(place, f"i/{DECOMPOSED} 1.png", "i/b.png", "test/robin/1.png", "test/dog/1.png")
    lines = f"i\\{COMPOSED} 1.png,robin\r\ni\\b.png,dog\r\n"
    (place / "list.csv").write_text(lines, encoding="utf-8")
    (tmp_path / "data" / "birds.yaml").write_text(CARD % "robin", encoding="utf-8")
    images = packed_of(card="birds", split="train")["train"]
    assert images.ids == [f"i/{DECOMPOSED} 1.png", "i/b.png"]


@pytest.mark.parametrize("line", ["..\\..\\x.png", "i\\..\\..\\x.png", "C:\\x.png"])
def test_a_list_does_not_lead_out_of_its_set(
    tmp_path: Path, refusal_of: Callable[..., str], line: str
) -> None:
    fill(tmp_path / "data" / "birds", "a.png", "test/robin/1.png", "test/dog/1.png")
    fill(tmp_path, "x.png")
    (tmp_path / "data" / "birds" / "list.csv").write_text(f"{line},robin\n", encoding="utf-8")
    (tmp_path / "data" / "birds.yaml").write_text(CARD % "robin", encoding="utf-8")
    assert f"list.csv, line 1: {line}" in refusal_of(card="birds", split="train")


def windows_zip(path: Path, names: list[str]) -> Path:
    """Write a zip with its names as they are, and an entry for a folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(["photos\\empty\\", *names]):
            data = b"" if name.endswith("\\") else encode(picture(number))
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def test_backslashes_in_a_zip_separate_folders(tmp_path: Path, packed_of: Packed) -> None:
    names = [f"photos\\{kind}\\{row}.png" for kind in ("cat", "dog") for row in range(2)]
    images = packed_of(folder=windows_zip(tmp_path / "a.zip", names))["all"]
    assert classes_of(images) == {"cat": 2, "dog": 2}
    assert images.ids[0] == "cat/0.png"


@pytest.mark.parametrize("form", [as_it_is, as_tar])
def test_backslashes_in_a_folder_or_a_tar_give_a_hint(
    tmp_path: Path,
    plan_of: Callable[..., dict[str, Any]],
    refusal_of: Callable[..., str],
    form: Callable[[Path], Path],
) -> None:
    path = form(fill(tmp_path / "set", "photos\\cat\\0.png", "photos\\dog\\1.png"))
    hint = "2 names of images hold backslashes, which separate folders in a zip only "
    hint += "(photos\\cat\\0.png): rename them, or unpack them again"
    assert plan_of(folder=path)["note"] == hint
    assert hint in refusal_of(folder=path, split="test")


def test_letters_of_shift_jis_in_a_zip(tmp_path: Path, packed_of: Packed) -> None:
    path = windows_zip(tmp_path / "a.zip", ["AA/1.png", "AA/2.png", "BB/1.png", "CC/1.png"])
    data = path.read_bytes()
    for ascii_name, letter in ((b"AA", "\u30bd"), (b"BB", "\u8868"), (b"CC", "\u80fd")):
        data = data.replace(ascii_name, letter.encode("shift_jis"))
    path.write_bytes(data)
    assert len(classes_of(packed_of(folder=path)["all"])) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos\\..\\..\\x.png", "its path leads out of the set"),
        ("C:\\photos\\x.png", "its path is absolute"),
        ("\\\\server\\share\\x.png", "its path is absolute"),
        ("photos/cat/0.png", "it occurs twice"),
    ],
)
def test_backslashes_do_not_lead_out_of_a_zip(
    tmp_path: Path, refusal_of: Callable[..., str], name: str, message: str
) -> None:
    path = windows_zip(tmp_path / "a.zip", ["photos\\cat\\0.png", name])
    assert message in refusal_of(folder=path)


def sample_files(*names: str) -> dict[str, bytes]:
    return {name: JPEG if not name.endswith(".cls") else b"0" for name in names}


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["IMG.2024.1.jpg", "IMG.2024.2.jpg", "ok.jpg"], ["IMG.2024.1", "IMG.2024.2", "ok"]),
        (["d/a 10.30.JPG", "d/a 10.31.JPG"], ["d/a 10.30", "d/a 10.31"]),
        (["p.0.jpg", "p.0.cls", "p.1.jpg", "p.1.cls"], ["p.0", "p.1"]),
        (["1.rgb.jpg", "1.cls", "2.rgb.jpg", "2.cls"], ["1", "2"]),
        (["1.jpg", "1.seg.png", "2.jpg", "2.seg.png"], ["1", "2"]),
    ],
)
def test_samples_with_several_dots_are_read(
    tmp_path: Path, packed_of: Packed, names: list[str], ids: list[str]
) -> None:
    path = write_shard(tmp_path / "s.tar", sample_files(*names))
    assert packed_of(tar=path)["all"].ids == [f"s/{name}" for name in ids]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["IMG.jpg", "IMG.2024.1.jpg", "ok.jpg"], "IMG: it has jpg and 2024.1.jpg: choose"),
        (["1.a.jpg", "1.b.jpg", "2.a.jpg", "2.b.jpg"], "1: it has a.jpg and b.jpg: choose"),
        (["1.a.jpg", "1.b.jpg", "1.cls"], "1: it has a.jpg and b.jpg: choose"),
        (["1.jpg", "1.JPG"], "1: it has both 1.jpg and 1.JPG: rename one of them"),
        (["p.0.jpg", "p.0.cls", "p.1.cls", "q.jpg", "q.cls"], "p.1: it has a label but no image"),
    ],
)
def test_ambiguous_samples_are_refused_by_name(
    tmp_path: Path, refusal_of: Callable[..., str], names: list[str], message: str
) -> None:
    path = write_shard(tmp_path / "s.tar", sample_files(*names))
    assert message in refusal_of(tar=path)


WRITTEN = ["0", "1", "10", "007", "1.0", "1e3", "0x1F", "yes", "no", "null", "~", "2024-01-31"]


@pytest.mark.parametrize("word", WRITTEN)
def test_a_class_is_called_as_it_is_written(
    tmp_path: Path, invoke: Callable[..., Said], packing: Path, word: str
) -> None:
    fill(tmp_path / "set", f"{word}/1.png", "dog/1.png")
    text = packing.read_text(encoding="utf-8")
    data = f"data: {{folder: set, size: 16, classes: [{word}, dog]}}"
    packing.write_text(text.replace("data: {}", data), encoding="utf-8")
    for words in ([], ["--set", f"data.classes=[{word}]"], ["--set", f"data.classes.0={word}"]):
        assert "set/all" in invoke("status", packing, *words).out
    assert "no class 'owl'" in invoke("status", packing, "--set", "data.classes=[owl]", check=2).err


@pytest.mark.parametrize("word", ["007", "1.0", "yes", "null", "2024"])
def test_a_class_in_a_card_is_called_as_it_is_written(
    tmp_path: Path, packed_of: Packed, word: str
) -> None:
    place = tmp_path / "data" / "birds"
    fill(place, "a.png", f"test/{word}/1.png", "test/dog/1.png")
    (place / "list.csv").write_text(f"a.png,{word}\n", encoding="utf-8")
    (tmp_path / "data" / "birds.yaml").write_text(CARD % word, encoding="utf-8")
    images = packed_of(card="birds", split="test", classes=[word])["test"]
    assert classes_of(images) == {word: 1}


def test_a_split_and_a_folder_may_be_called_by_a_number(tmp_path: Path, plan_of: Any) -> None:
    fill(tmp_path / "2024", "1.png")
    assert plan_of(folder=2024)["stage"] == "2024/all"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"classes": ["cat", "cat"]}, "names the class 'cat' twice"),
        ({"classes": [COMPOSED, DECOMPOSED]}, "twice"),
        ({"classes": "cat"}, "classes"),
        ({"classes": []}, "classes"),
        ({"classes": [["cat"]]}, "classes.0"),
        ({"classes": [""]}, "no class ''"),
    ],
)
def test_faulty_classes_are_refused_at_planning(
    tmp_path: Path, refusal_of: Callable[..., str], data: dict[str, Any], message: str
) -> None:
    folder = fill(tmp_path / "set", "cat/1.png", "dog/1.png")
    assert message in refusal_of(folder=folder, **data)


def test_hidden_files_beside_cards_are_no_cards(
    tmp_path: Path, invoke: Callable[..., Said]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "._mine.yaml").write_bytes(b"\0\5\x16\7")
    assert "_mine" not in invoke("list", "data").out


def test_the_same_card_of_two_installations_is_no_fault(
    tmp_path: Path, invoke: Callable[..., Said]
) -> None:
    fill(tmp_path / "data" / "birds", "a.png", "test/robin/1.png", "test/dog/1.png")
    (tmp_path / "data" / "birds" / "list.csv").write_text("a.png,robin\n", encoding="utf-8")
    file = tmp_path / "pipelines" / "packing.yaml"
    (file.parent / "data").mkdir(parents=True)
    file.write_text(PACKING, encoding="utf-8")
    cards = [tmp_path / "data" / "birds.yaml", file.parent / "data" / "birds.yaml"]
    for card in cards:
        card.write_text(CARD % "robin", encoding="utf-8")
    words = ["status", file, *set_data({"card": "birds", "split": "test"})]
    assert "birds/test" in invoke(*words).out
    cards[0].write_text(CARD % "wren", encoding="utf-8")
    assert "two cards are called 'birds'" in invoke(*words, check=2).err


def write_changes(folder: Path) -> None:
    (folder / "000.png").write_bytes(encode(picture(77)))
    (folder / "001.png").unlink()
    fill(folder, "new.png")


def test_a_plan_names_the_images_that_changed(
    tmp_path: Path, invoke: Callable[..., Said], packing: Path
) -> None:
    folder = fill(tmp_path / "set", *(f"{number:03}.png" for number in range(4)))
    words = [packing, *set_data({"folder": folder})]
    invoke("run", *words)
    write_changes(folder)
    text = "images changed: 001.png was removed, new.png was added, 000.png has changed"
    for _ in range(2):  # also where nothing changed since the last plan
        assert text in invoke("run", "-n", *words).out
    (folder / "new.png").unlink()
    out = invoke("status", *words).out
    assert "images changed: 001.png was removed, 000.png has changed\n" in out
    fill(folder, *(f"x{number}.png" for number in range(5)))
    assert "and 4 more" in invoke("status", *words).out
    assert "fingerprint" not in invoke("status", *words).out


def test_a_plan_names_the_shards_and_the_listed_images_that_changed(
    tmp_path: Path, invoke: Callable[..., Said], packing: Path
) -> None:
    write_shard(tmp_path / "s" / "a.tar", {"1.jpg": JPEG})
    words = [packing, *set_data({"tar": tmp_path / "s"})]
    invoke("run", *words)
    write_shard(tmp_path / "s" / "a.tar", {"1.jpg": JPEG, "2.jpg": JPEG})
    assert "images changed: a.tar has changed" in invoke("status", *words).out
    data = io.BytesIO()
    picture(5).save(data, "JPEG")
    write_h5(tmp_path / "a.h5", all=split_of(2))
    words = [packing, *set_data({"hdf5": tmp_path / "a.h5"})]
    invoke("run", *words)
    write_h5(tmp_path / "a.h5", all=split_of(3))
    assert "to run   images changed" in invoke("status", *words).out
