"""Image sets of pipeline files: the forms of `data:`, paths, splits and imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.datasets.conftest import fill
from transfer.datasets.image_sets import ImageSets
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers.base import Split, Survey
from transfer.datasets.spec import ImageSpec
from transfer.errors import UsageError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("drawings", {"card": "drawings"}),
        ("./photos", {"folder": "./photos"}),
        ("~/photos", {"folder": "~/photos"}),
        ("photos.h5", {"hdf5": "photos.h5"}),
        ("some/PHOTOS.HDF5", {"hdf5": "some/PHOTOS.HDF5"}),
    ],
)
def test_a_text_is_a_card_a_folder_or_an_hdf5_file(text: str, place: dict[str, str]) -> None:
    spec = ImageSpec.model_validate(text)
    assert spec.model_dump(exclude_defaults=True) == place
    assert spec.location == text


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"card": "a", "folder": "b"},
        {"folder": ""},
        "",
        {"folder": "a", "size": 7},
        {"folder": "a", "size": 1025},
        {"folder": "a", "limit": 0},
        {"folder": "a", "limit": "3"},
        {"folder": "a", "color": True},
        {"hdf5": "a.h5", "labels": False},
        {"folder": 3},
        None,
    ],
)
def test_what_names_no_place_or_an_impossible_one_is_refused(spec: object) -> None:
    with pytest.raises(ValidationError):
        ImageSpec.model_validate(spec)


def test_paths_start_at_the_pipeline_file(tmp_path: Path, sets: Callable[[], ImageSets]) -> None:
    fill(tmp_path / "photos", "1.png")
    assert sets().locate(ImageSpec(folder="x/../photos"))[0].location == str(tmp_path / "photos")
    assert sets().survey(ImageSpec(folder="photos")).splits["all"].count == 1
    assert (
        sets()
        .locate(ImageSpec(folder="~nobody-of-this-name/x"))[0]
        .location.startswith(str(tmp_path))
    )


@pytest.mark.parametrize(
    ("splits", "requested", "explicit", "expected"),
    [
        ({"train", "test"}, "unlabeled", False, "train"),
        ({"unlabeled", "train"}, "unlabeled", False, "unlabeled"),
        ({"all"}, "unlabeled", False, "all"),
        ({"train", "test"}, "test", True, "test"),
        ({"all"}, "train", False, None),
        ({"train"}, "unlabeled", True, None),
        ({"val", "test"}, "unlabeled", False, None),
    ],
)
def test_a_split_stands_in_for_unlabeled_and_for_nothing_else(
    splits: set[str], requested: str, explicit: bool, expected: str | None
) -> None:
    survey = Survey({name: Split(1, True, "") for name in sorted(splits)})
    if expected is None:
        with pytest.raises(UsageError, match=f"has no split '{requested}'"):
            survey.resolve_split(requested, explicit)
    else:
        assert survey.resolve_split(requested, explicit) == expected


def test_a_stage_that_needs_labels_is_told_where_there_are_none(
    tmp_path: Path, sets: Callable[[], ImageSets]
) -> None:
    spec = ImageSpec(folder=str(fill(tmp_path / "set", "train/1.png")), size=16)
    with pytest.raises(UsageError, match="split 'train', has no labels, and this stage needs them"):
        sets().pack(spec, "train", labeled=True)
    assert sets().pack(spec, "train", labeled=False).count == 1


@pytest.mark.parametrize("name", ["folder", "hdf5"])
def test_a_layout_is_no_set(name: str, plan: Callable[..., Pack]) -> None:
    with pytest.raises(
        UsageError, match=f"'{name}' is a layout, not a set: write `data: {{{name}: PATH}}`"
    ):
        plan(card=name)


def test_an_unknown_card_is_told_with_the_nearest(plan: Callable[..., Pack]) -> None:
    with pytest.raises(UsageError, match="no image set called 'drawing'; did you mean 'drawings'"):
        plan(card="drawing")


def test_planning_imports_no_heavy_library(tmp_path: Path) -> None:
    fill(tmp_path / "set", "1.png")
    modules = [
        "spec",
        "readers.base",
        "cards",
        "packed.pack_stage",
        "readers.folder",
        "readers.hdf5",
        "readers.drawings",
    ]
    code = (
        "import sys\n"
        + "".join(f"import transfer.datasets.{module}\n" for module in modules)
        + "from pathlib import Path\n"
        + "from transfer.datasets.image_sets import ImageSets\n"
        + "from transfer.datasets.spec import ImageSpec\n"
        + "sets = ImageSets(Path('memory'), Path.cwd())\n"
        + "sets.pack(ImageSpec(folder='set'), 'unlabeled', False).identity()\n"
        + "sets.pack(ImageSpec(card='drawings'), 'train', True).identity()\n"
        + "heavy = {'numpy', 'torch', 'h5py', 'PIL', 'faiss', 'scipy', 'matplotlib'}\n"
        + "print(*sorted(heavy & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("\n", "")
