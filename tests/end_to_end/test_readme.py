"""What README and docs say, done: their commands run, their files exist, their options are real."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import command_line

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]


NEED_RESULTS = ("compare", "report", "export")


def commands() -> list[str]:
    """Every `transfer ...` line of every page, once."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    ]
    lines = [part for block in blocks for line in block.splitlines() for part in line.split(" && ")]
    return sorted({line for line in lines if line.startswith("transfer ")})


def head_commands() -> list[tuple[str, str]]:
    """Every `transfer run ...` line at the head of every pipeline file; what stands some way behind it is a remark."""
    found = []
    for file in sorted((ROOT / "pipelines").glob("*.yaml")):
        lines = re.findall(r"^#   (transfer run .*)$", file.read_text("utf-8"), flags=re.MULTILINE)
        found += [(file.stem, line.split("   ")[0]) for line in lines]
    return found


@pytest.mark.parametrize(("file", "line"), head_commands())
def test_every_command_at_the_head_of_a_pipeline_plans(
    file: str, line: str, tmp_path: Path
) -> None:
    assert file in line
    photographs(tmp_path / "photos")
    words = shlex.split(line.replace("~/photos", str(tmp_path / "photos")))[1:]
    # A smoke run has stand-ins for what is not there, but its members are fewer: numbers are capped.
    words += ["--dry-run", "--store", str(tmp_path / "store")] + (
        [] if re.search(r"'\w+\[", line) else ["--smoke"]
    )
    assert "to run" in command_line(*words, cwd=ROOT).stdout


def photographs(folder: Path) -> None:
    """A folder that could be somebody's."""
    folder.mkdir()
    for i in range(120):
        Image.new("RGB", (80, 70), (i, 2 * i, 255 - i)).save(folder / f"{i}.png")


def needs_results(line: str) -> bool:
    return line.split()[1] in NEED_RESULTS and "--help" not in line


@pytest.mark.parametrize("line", [line for line in commands() if not needs_results(line)])
def test_every_command_of_the_pages_runs(line: str, tmp_path: Path) -> None:
    words = shlex.split(line)[1:]
    if words[0] == "run":
        photographs(tmp_path / "photos")
        words = [word.replace("~", str(tmp_path)) for word in words]
        words += ["--dry-run"]
        there = not re.search("card: (cifar10|imagenette)", line)
        words += [] if there else ["--smoke"]  # drawings stand in for what is not there
    if words[0] in ("run", "status", "show", "gc") and "--help" not in words:
        words += ["--store", str(tmp_path / "store")]
    said = command_line(*words, cwd=ROOT).stdout
    assert words[0] != "run" or "to run" in said


def test_every_command_of_the_pages_that_shows_results_runs(tmp_path: Path) -> None:
    """On a small run of the pipeline that they name, with what they write in a folder of the test's own."""
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    lines = [shlex.split(line)[1:] for line in commands() if needs_results(line)]
    for file in sorted({word for words in lines for word in words if word.endswith(".yaml")}):
        command_line("run", file, "--smoke", "--store", "store", cwd=tmp_path)
    for words in lines:
        assert command_line(*words, "--smoke", "--store", "store", cwd=tmp_path).stdout


def test_the_pipeline_shown_as_an_example_of_a_matrix_is_one(tmp_path: Path) -> None:
    matrix = next(
        block
        for block in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
        if "matrix:" in block
    )
    shipped = (ROOT / "pipelines" / "jigsawpp_vgg_to_alexnet.yaml").read_text(encoding="utf-8")
    head, stages = matrix.split("stages:\n")
    text = re.sub(r"^seed: 0\n", head, shipped, flags=re.MULTILINE)
    text = re.sub(r"  clusters:\n(    .*\n)+", stages.rstrip() + "\n", text)
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    said = command_line(
        "status", tmp_path / "p.yaml", "--store", tmp_path / "s", cwd=tmp_path
    ).stdout
    assert (
        len(re.findall(r"^  pretext\[", said, flags=re.MULTILINE)) == 3
    )  # one a seed, shared by the three k
    assert len(re.findall(r"^  target\[", said, flags=re.MULTILINE)) == 9


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(
        re.findall(
            r"\b(?:transfer|stages|pipelines|data|docs|benchmarks|tests)/[\w/.]*\w+\.\w+", text
        )
    )
    named |= {f"{page.parent.name}/{name}" for name in re.findall(r"\]\((\w[\w./]*\.png)\)", text)}
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_the_map_of_the_code_names_folders_and_files_that_exist() -> None:
    block = README.split("## A map of the code")[1].split("```")[1]
    for name in re.findall(r"^([\w/.]+)", block, flags=re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_no_page_has_a_hole_left_to_fill() -> None:
    for page in PAGES:
        assert not re.search(
            r"\b(RESULTS|MAIN_JOB_SENTENCE|TODO|FIXME|N minutes)\b",
            page.read_text(encoding="utf-8"),
        ), page
