"""Plug-ins: stages in a file beside the pipeline, or in an installed package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from transfer.pipeline.loader import Plan

MINE = """
from transfer.artifacts import Model
from transfer.errors import InvalidOption
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.stage.base import ImageInput, Stage
from transfer.stage.options import option
from transfer.transforms.normalize import Normalization


class Mine(Stage):
    \"\"\"A network of any width.\"\"\"

    produces = Model
    images = {"images": ImageInput("unlabeled")}
    width: float = option(0.5, "of conv4", gt=0)

    def validate_plan(self, planned):
        if self.width > 2:
            raise InvalidOption("width", "too wide for me")
        if self.width == 2:
            raise KeyError("a mistake")

    def run(self, context):
        spec = backbone({"name": "conv4", "width": self.width})
        network = build_network(spec, context.seed_for("weights"))
        facts = dict(size=64, normalization=Normalization(), made_by={}, history=[])
        Model.write(context.folder, network, **facts)
        context.figures["width"] = self.width


class Other(Mine):
    pass


number = 5
"""


USES_MINE = """
data: {card: drawings, limit: 32}
stages:
  mine: {uses: "my_stage.py:Mine", width: 1.0}
  features: {uses: extract/network, model: mine, layer: conv4, pool: 1}
"""


@pytest.mark.slow
def test_a_stage_in_a_file_beside_the_pipeline_runs_like_any_other(
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    pipeline: Callable[..., Path],
    tmp_path: Path,
) -> None:
    pipeline(MINE, "my_stage.py")
    file = pipeline(USES_MINE)
    assert "mine: done" in transfer("run", file, "--threads", 1, cwd=tmp_path.parent).stdout
    again = transfer("run", file, "--set", "stages.mine.width=0.5", "-n").stdout
    assert re.search(r"mine +my_stage.Mine +to run +width 1.0 → 0.5", again)
    assert (tmp_path / ".transfer" / "my_stage.Mine").is_dir()


@pytest.mark.parametrize(
    ("code", "uses", "options", "words"),
    [
        (
            MINE,
            "my_stage.py:Mine",
            "widht: 1",
            "stages.mine.widht: unknown option; did you mean 'width'?",
        ),
        (
            MINE,
            "my_stage.py:Mine",
            "width: 0",
            "stages.mine.width: should be greater than 0 (found 0)",
        ),
        (MINE, "my_stage.py:Mine", "width: 3", "stages.mine.width: too wide for me"),
        (
            MINE,
            "my_stage.py:Mine",
            "width: 2",
            "stages.mine: the check of my_stage.Mine fails: KeyError: 'a mistake'",
        ),
        (MINE, "my_stage.py:Mien", "", "my_stage.py has no 'Mien'; did you mean 'Mine'?"),
        (MINE, "my_stage.py:", "", "my_stage.py has no ''; choose from: Mine, Other"),
        (
            MINE,
            "my_stage.py:number",
            "",
            "my_stage.py:number is not a Stage (it is 5); subclass transfer.stage.base.Stage",
        ),
        (MINE, "my_stage.py:Stage", "", "is not a Stage"),
        (MINE, "your_stage.py:Mine", "", "your_stage.py does not exist"),
        (
            "import nothing_of_that_name",
            "my_stage.py:Mine",
            "",
            "my_stage.py fails on import: ModuleNotFoundError: No module",
        ),
        ("def broken(:", "my_stage.py:Mine", "", "my_stage.py fails on import: SyntaxError: "),
        (
            "raise SystemExit(3)",
            "my_stage.py:Mine",
            "",
            "my_stage.py fails on import: SystemExit: 3",
        ),
        (
            MINE.replace("produces = Model", ""),
            "my_stage.py:Mine",
            "",
            "`produces` is missing; choose from Images, Model",
        ),
        (
            MINE.replace("produces = Model", "produces = 'Model'"),
            "my_stage.py:Mine",
            "",
            "`produces` is 'Model', which is not an artifact",
        ),
        (
            MINE.replace("def run(", "def walk("),
            "my_stage.py:Mine",
            "",
            "my_stage.py:Mine has no method `run(self, context)`",
        ),
    ],
)
def test_faulty_plugin_is_reported(
    faults: Callable[..., list[str]],
    pipeline: Callable[..., Path],
    code: str,
    uses: str,
    options: str,
    words: str,
) -> None:
    pipeline(code, "my_stage.py")
    found = faults(f"data: drawings\nstages:\n  mine:\n    uses: '{uses}'\n    {options}\n")
    assert len(found) == 1
    assert re.match(r"\d+:\d+: stages\.mine", found[0])
    assert words in found[0]


def test_two_stages_of_one_file_share_its_module(
    load: Callable[..., Plan], pipeline: Callable[..., Path]
) -> None:
    pipeline(MINE, "my_stage.py")
    plan = load(
        "data: drawings\nstages: {a: {uses: 'my_stage.py:Mine'}, b: {uses: 'my_stage.py:Other'}}"
    )
    first, second = (type(plan.find(name)[0].stage) for name in "ab")
    assert issubclass(second, first)


@pytest.fixture
def distribution(tmp_path: Path) -> dict[str, str]:
    """An environment in which a package offers a stage that works and one that does not."""
    folder = tmp_path / "site"
    (folder / "shuffling-1.0.dist-info").mkdir(parents=True)
    (folder / "shuffling.py").write_text(MINE, encoding="utf-8")
    (folder / "shuffling-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: shuffling\nVersion: 1.0\n"
    )
    (folder / "shuffling-1.0.dist-info" / "entry_points.txt").write_text(
        "[transfer.stages]\npretext/shuffle = shuffling:Mine\n"
        "pretext/broken = nothing_of_that_name:Mine\n"
    )
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_a_stage_of_an_installed_package_is_found_by_its_entry_point(
    pipeline: Callable[..., Path], distribution: dict[str, str]
) -> None:
    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "transfer", *map(str, words)]
        return subprocess.run(
            command, env=distribution, text=True, capture_output=True, check=False
        )

    file = pipeline("data: drawings\nstages: {a: {uses: pretext/shuffle}}")
    assert re.search(r"a +to run", call("status", file).stdout)
    listed = call("list", "pretexts").stdout
    assert "pretext/shuffle" in listed
    assert re.search(
        "pretext/broken +cannot be used: stage 'pretext/broken' of shuffling fails on import",
        listed,
    )
    assert "pretext/jigsawpp" in listed
    assert call("list", "--schema").returncode == 0
    message = call("status", pipeline("data: drawings\nstages: {a: {uses: pretext/broken}}"))
    assert message.returncode == 2
    assert (
        "2:14: stages.a.uses: stage 'pretext/broken' of shuffling fails on import: "
        "ModuleNotFoundError" in message.stderr
    )
