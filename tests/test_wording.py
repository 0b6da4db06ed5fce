"""Docs, messages and names are plain: no word and no name of the list in `wording.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wording import QUOTING, bare_names, faulty_words

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(
    path
    for folder in ("transfer", "stages", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if path.name not in QUOTING
)
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
        *(ROOT / "pipelines").glob("*.yaml"),
        *(ROOT / "data").glob("*.yaml"),
        *(ROOT / "transfer").rglob("*.html"),
    ]
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=name)
def test_prose_is_plain(path: Path) -> None:
    assert faulty_words(path) == []


@pytest.mark.parametrize("path", CODE, ids=name)
def test_names_say_what_they_hold(path: Path) -> None:
    assert bare_names(path) == []


def test_the_list_finds_words_in_comments_strings_and_names(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text('"""It is told."""\n\none = "a person"  # it stands on it\n', encoding="utf-8")
    assert [fault.split(": ", 1)[1].split("'")[1] for fault in faulty_words(file)] == [
        "told",
        "a person",
        "stands on",
    ]
    assert bare_names(file) == [f"{file}:3: the name `one`"]
