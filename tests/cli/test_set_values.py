"""`--set` and `sets=`: a value means what it says, in every place that takes a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import transfer
from tests.conftest import Said
from transfer.errors import UsageError

FILE = """\
data: ./photos
stages:
  net: {uses: pretext/random, backbone: conv4}
  features: {uses: extract/network, model: net}
"""


@pytest.fixture
def file(pipeline: Callable[..., Path]) -> Path:
    return pipeline(FILE)


def fill(folder: Path, count: int) -> None:
    """Write `count` pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"{number}.png")


@pytest.mark.parametrize(
    ("value", "folder"),
    [
        ("./photos #1", "photos #1"),
        ("./photos#1", "photos#1"),
        ("./photos: 2020", "photos: 2020"),
        ("./photos ", "photos "),
        ("./2024", "2024"),
        ("{folder: 2024}", "2024"),
        ("{folder: 007}", "007"),
        ("{folder: true}", "true"),
        ("{folder: ./photos, size: 32}", "photos"),
        ("{folder: './photos #1'}", "photos #1"),
        ("'./photos #1'", "photos #1"),
        ("./a=b", "a=b"),
        ("./[a], {b} 'c' & 写真", "[a], {b} 'c' & 写真"),
        ("./$${d}", "${d}"),
    ],
)
def test_the_folder_that_is_named_is_read(
    invoke: Callable[..., Said], file: Path, tmp_path: Path, value: str, folder: str
) -> None:
    fill(tmp_path / "photos", 1)
    fill(tmp_path / folder, 3)
    said = invoke("run", file, "--set", f"data={value}", "-n").out
    assert f" * {folder}/all  " in said


def test_a_folder_named_like_a_number_can_be_in_the_file(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    fill(tmp_path / "007", 1)
    written = pipeline(FILE.replace("./photos", "{folder: 007}"))
    assert " * 007/all " in invoke("run", written, "-n").out


def test_a_number_is_the_text_of_an_option_that_takes_text(
    invoke: Callable[..., Said], file: Path, tmp_path: Path
) -> None:
    fill(tmp_path / "photos", 1)
    said = invoke("run", file, "-n", "--set", "stages.features.layer=5", check=2).err
    assert "stages.features.layer: no layer of conv4 is called '5'" in said
    said = invoke("run", file, "-n", "--set", "stages.features.pool=2.5", check=2).err
    assert "stages.features.pool: should be a valid integer (found 2.5)" in said


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("data=./$ {x}${d}", "no matrix variable 'd'; for the text itself write $${d}"),
        ("data=2024", "(a path needs a slash: './2024')"),
        ("stages.feature.pool=2", "no 'feature' there; did you mean 'features'?"),
        ("stages.features.pol=2", "unknown option; did you mean 'pool'?"),
        ("matrix.seed=[0, 1]", "to add it: --set matrix='{seed: ...}'"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_a_remedy(
    invoke: Callable[..., Said], file: Path, tmp_path: Path, words: str, problem: str
) -> None:
    fill(tmp_path / "photos", 1)
    said = invoke("run", file, "-n", "--set", words, check=2).err
    assert f"transfer: --set {words}: " in said
    assert problem in said


@pytest.mark.parametrize(
    ("sets", "pool", "location"),
    [
        ({"stages.features.pool": 2}, 2, "photos"),
        ({"data": Path("${d} #1")}, 5, "${d} #1"),
        ({"data": {"folder": Path("2024"), "size": 32}}, 5, "2024"),
        ({"data": "./[a] 'b'"}, 5, "[a] 'b'"),
        (["stages.features.pool=2", "data=./photos #1"], 2, "photos #1"),
        ("stages.features.pool=2", 2, "photos"),
    ],
)
def test_python_gives_values_as_they_are(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sets: Any,
    pool: int,
    location: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "photos", 1)
    fill(tmp_path / location, 1)
    pipeline = transfer.load(file, sets=sets, store=tmp_path / "store")
    assert pipeline.stage("features").stage.pool == pool
    assert pipeline.plan.stages[0].stage.set_name == str(tmp_path / location)
    flags = [flag.removeprefix("--set=") for flag in pipeline.flags if flag.startswith("--set=")]
    again = transfer.load(file, sets=flags, store=tmp_path / "store")
    assert again.stage("features").key == pipeline.stage("features").key


def test_a_value_of_python_that_no_file_can_hold_is_refused(file: Path) -> None:
    with pytest.raises(UsageError, match="sets: seed: a object cannot be written"):
        transfer.load(file, sets={"seed": object()})


@pytest.mark.parametrize("words", ["data=", "data=null", "data='' ", "stages.features.data="])
def test_images_that_a_set_empties_are_named_with_it(
    invoke: Callable[..., Said], file: Path, tmp_path: Path, words: str
) -> None:
    fill(tmp_path / "photos", 3)
    said = invoke("run", file, "-n", "--set", words, check=2).err
    assert f"--set {words}: {words.partition('=')[0]}: " in said
    assert "`data:` is missing" not in said
    assert "1 fault; nothing was started" in said


@pytest.mark.parametrize(
    ("value", "link"),
    [
        ("./gone", "it"),
        ("./gone/photos", "FOLDER/gone"),
        ("./gone.zip", "it"),
        ("{hdf5: ./gone}", "it"),
        ("{tar: ./gone.tar}", "it"),
        ("{card: cifar10, path: ./gone}", "it"),
    ],
)
def test_a_link_to_something_that_is_missing_is_named(
    invoke: Callable[..., Said], file: Path, tmp_path: Path, value: str, link: str
) -> None:
    for name in ("gone", "gone.zip", "gone.tar"):
        (tmp_path / name).symlink_to("nowhere")
    said = invoke("run", file, "-n", "--set", f"data={value}", check=2).err
    link = link.replace("FOLDER", str(tmp_path))
    assert f": {link} is a link to nowhere, which is missing" in said
    said = invoke("run", file, "-n", "--set", f"data={value.replace('gone', 'none')}", check=2).err
    assert "is a link" not in said
