"""README and docs hold: their commands and Python blocks run, their files and options exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import command_line

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]
MAIN = "pipelines/jigsawpp_vgg_to_alexnet.yaml"
NEED_RESULTS = ("compare", "report", "export")
PHOTOGRAPHS = 120


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of every code block of a language."""
    return [
        (page.relative_to(ROOT).as_posix(), block)
        for page in PAGES
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]


def commands() -> list[str]:
    """Every `transfer ...` line of every page, once."""
    parts = [
        part
        for _, block in blocks("sh")
        for line in block.splitlines()
        for part in line.split(" && ")
    ]
    return sorted({part for part in parts if part.startswith("transfer ")})


def head_commands() -> list[tuple[str, str]]:
    """Every `transfer run ...` line at the head of a pipeline file, without the remark after it."""
    lines = []
    for file in sorted((ROOT / "pipelines").glob("*.yaml")):
        for line in re.findall(r"^#   (transfer run .*)$", file.read_text("utf-8"), re.MULTILINE):
            lines.append((file.stem, line.split("   ")[0]))
    return lines


def photographs(folder: Path) -> None:
    """Write a folder of small images."""
    folder.mkdir()
    for i in range(PHOTOGRAPHS):
        Image.new("RGB", (80, 70), (i, 2 * i, 255 - i)).save(folder / f"{i}.png")


def needs_results(line: str) -> bool:
    return line.split()[1] in NEED_RESULTS and "--help" not in line


@pytest.mark.parametrize(("file", "line"), head_commands())
def test_commands_at_the_head_of_a_pipeline_plan(file: str, line: str, tmp_path: Path) -> None:
    assert file in line
    photographs(tmp_path / "photos")
    words = shlex.split(line.replace("~/photos", str(tmp_path / "photos")))[1:]
    words += ["--dry-run", "--store", str(tmp_path / "store")]
    # A smoke run replaces missing sets, but caps numbers, so its members have other names.
    words += [] if re.search(r"'\w+\[", line) else ["--smoke"]
    assert "to run" in command_line(*words, cwd=ROOT).stdout


@pytest.mark.parametrize("line", [line for line in commands() if not needs_results(line)])
def test_commands_of_the_pages_run(line: str, tmp_path: Path) -> None:
    words = shlex.split(line)[1:]
    if words[0] == "run":
        photographs(tmp_path / "photos")
        words = [word.replace("~", str(tmp_path)) for word in words] + ["--dry-run"]
        missing_set = re.search("card: (cifar10|imagenette)", line)
        words += ["--smoke"] if missing_set else []
    if words[0] in ("run", "status", "show", "gc") and "--help" not in words:
        words += ["--store", str(tmp_path / "store")]
    output = command_line(*words, cwd=ROOT).stdout
    assert words[0] != "run" or "to run" in output


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pipelines, a finished smoke run of the main one, its export and a photo."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "pipelines", folder / "pipelines")
    command_line("run", MAIN, "--smoke", "--store", "store", cwd=folder)
    command_line("export", MAIN, "target", "exported", "--smoke", "--store", "store", cwd=folder)
    Image.new("RGB", (80, 70), (9, 90, 200)).save(folder / "photo.jpg")
    return folder


@pytest.mark.slow
def test_commands_that_show_results_run(smoke_run: Path) -> None:
    lines = [shlex.split(line)[1:] for line in commands() if needs_results(line)]
    for words in lines:
        words = ["elsewhere" if word == "exported" else word for word in words]
        assert command_line(*words, "--smoke", "--store", "store", cwd=smoke_run).stdout


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_python_blocks_run(page: str, block: str, smoke_run: Path) -> None:
    """In a folder with results; what a block loads is the smoke run."""
    small = "import functools, transfer\n"
    small += "transfer.load = functools.partial(transfer.load, smoke=True, store='store')\n"
    ended = subprocess.run(
        [sys.executable, "-c", small + block],
        cwd=smoke_run,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{page}: {ended.stderr}"


@pytest.mark.parametrize(("page", "block"), blocks("yaml"))
def test_yaml_blocks_are_yaml(page: str, block: str) -> None:
    from ruamel.yaml import YAML

    assert isinstance(YAML(typ="safe", pure=True).load(block), dict), page


def test_the_matrix_of_the_readme_is_one(tmp_path: Path) -> None:
    matrix = next(
        text for page, text in blocks("yaml") if page == "README.md" and "matrix:" in text
    )
    shipped = (ROOT / MAIN).read_text(encoding="utf-8")
    head, stages = matrix.split("stages:\n")
    text = re.sub(r"^seed: 0\n", head, shipped, flags=re.MULTILINE)
    text = re.sub(r"  clusters:\n(    .*\n)+", stages.rstrip() + "\n", text)
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    output = command_line(
        "status", tmp_path / "p.yaml", "--store", tmp_path / "s", cwd=tmp_path
    ).stdout
    # The three values of k share a pretext for each seed.
    assert len(re.findall(r"^  pretext\[", output, flags=re.MULTILINE)) == 3
    assert len(re.findall(r"^  target\[", output, flags=re.MULTILINE)) == 9


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "transfer|stages|pipelines|data|docs|benchmarks|tests"
    named = set(re.findall(rf"(?<![\w/])(?:{folders})/[\w/.]*\w+\.\w+", text))
    missing = [name for name in named if not (ROOT / name).exists() and "NAME" not in name]
    links = re.findall(r"\]\(([\w./-]+?)(?:#[\w-]+)?\)", text)
    missing += [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_the_map_of_the_code_names_what_exists() -> None:
    block = README.split("## A map of the code")[1].split("```")[1]
    for name in re.findall(r"\b((?:stages|transfer|pipelines)/[\w/.]*)", block):
        assert (ROOT / name).exists(), name


def test_no_page_has_a_gap() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"\b(RESULTS|TODO|FIXME|N minutes)\b", text), page


@pytest.mark.slow
def test_the_drawing_of_the_rooms_is_up_to_date() -> None:
    from tests.architecture import TARGET, svg

    assert TARGET.read_text(encoding="utf-8") == svg(), (
        "write it again: python -m tests.architecture"
    )
