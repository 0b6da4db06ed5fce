"""What ships with the package: example pipeline files (`init`) and pages (`docs`)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TINY, Said
from transfer.utils.paths import CHECKOUT, shipped_folder

EXAMPLES = sorted(shipped_folder("pipelines").glob("*.yaml"))
PAGES = sorted(path.stem for path in shipped_folder("docs").glob("*.md"))


def test_init_copies_the_examples_and_says_for_whom_each_is(
    invoke: Callable[..., Said], tmp_path: Path
) -> None:
    lines = invoke("init", "new").out.splitlines()
    copies = sorted((tmp_path / "new" / "pipelines").glob("*.yaml"))
    assert [copy.read_bytes() for copy in copies] == [path.read_bytes() for path in EXAMPLES]
    for copy in copies:
        (line,) = [line for line in lines if line.split()[0] == copy.name]
        assert re.search(r"  You (study|compare|have photographs): \w.*\.$", line), line
        assert len(line) <= 80
    offered = shlex.split(lines[-1].removeprefix("next: transfer "))
    assert invoke(*offered, "-n").code == 0


def test_init_replaces_files_with_force_only(invoke: Callable[..., Said], tmp_path: Path) -> None:
    invoke("init")
    changed = tmp_path / "pipelines" / EXAMPLES[0].name
    changed.write_text(TINY, encoding="utf-8")
    (tmp_path / "pipelines" / "mine.yaml").write_text(TINY, encoding="utf-8")
    said = invoke("init").out
    assert said.count("exists; not changed") == len(EXAMPLES)
    assert said.count("--force replaces it") == 1
    assert changed.read_text(encoding="utf-8") == TINY
    assert "exists" not in invoke("init", "--force").out
    assert changed.read_bytes() == EXAMPLES[0].read_bytes()
    assert (tmp_path / "pipelines" / "mine.yaml").read_text(encoding="utf-8") == TINY


@pytest.mark.parametrize("file", ["x", "y/pipelines"])
def test_init_into_a_file_is_refused(
    invoke: Callable[..., Said], tmp_path: Path, file: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    said = invoke("init", "x" if file == "x" else "y", check=2).err
    assert "is a file; name a folder" in said


@pytest.mark.parametrize("form", ["{}", "{}.md", "docs/{}.md", "docs/{}.md#place"])
@pytest.mark.parametrize("page", PAGES)
def test_docs_shows_a_page(invoke: Callable[..., Said], page: str, form: str) -> None:
    file = shipped_folder("docs") / f"{page}.md"
    assert invoke("docs", form.format(page)).out == file.read_text(encoding="utf-8")


def test_docs_lists_the_pages_and_where_they_are(invoke: Callable[..., Said]) -> None:
    lines = invoke("docs").out.splitlines()
    assert sorted(line.split()[0] for line in lines[: len(PAGES)]) == PAGES
    assert any(re.fullmatch(r"run +Run a pipeline", line) for line in lines)
    assert lines[-1].endswith(str(shipped_folder("docs")))
    assert invoke("docs", "--path").out.strip() == str(shipped_folder("docs"))
    assert invoke("docs", "run", "--path").out.strip() == str(shipped_folder("docs") / "run.md")
    assert "did you mean 'run'?" in invoke("docs", "runn", check=2).err


def test_pages_that_code_and_examples_name_exist() -> None:
    folders = ("transfer", "stages", "pipelines", "data")
    files = [path for name in folders for path in (CHECKOUT / name).rglob("*") if path.is_file()]
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix in (".py", ".yaml")]
    named = {name for text in texts for name in re.findall(r"docs/(\w+)\.md", text)}
    assert named
    assert named <= set(PAGES)


def test_wheel_carries_every_folder_that_the_code_looks_for() -> None:
    project = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in (CHECKOUT / "transfer").rglob("*.py")]
    folders = {name for text in texts for name in re.findall(r'shipped_folder\("(\w+)"\)', text)}
    assert folders == {"pipelines", "data", "docs"}
    for folder in folders:
        assert f'"{folder}" = "transfer/shipped/{folder}"' in project
