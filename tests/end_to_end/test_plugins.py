"""Plug-ins: installed as a package, or in a file beside the pipeline; and those that fail."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Said, command_line
from tests.stages.handmade import make_work, pack_images
from transfer.artifacts import Model
from transfer.stage.registry import find_stage

ROOT = Path(__file__).parents[2]
SECTION = (
    (ROOT / "README.md")
    .read_text(encoding="utf-8")
    .split("## Bring your own pretext\n")[1]
    .split("\n## ")[0]
)
SHUFFLE = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)[0]
PIPELINE = """
data: {{card: drawings, limit: 64, size: 32}}
stages:
  pretext: {{uses: "{uses}", batch_size: 16, optimizer: adamw, learning_rate: 1e-3,
             backbone: {{name: conv4, width: 0.5}}}}
  features: {{uses: extract/network, model: pretext}}
"""


# A package.


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has put the third party's package; nothing is fetched."""
    folder = tmp_path_factory.mktemp("environment")
    shutil.copytree(
        Path(__file__).parent / "stranger",
        folder / "source",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    command += ["--no-build-isolation", "--target", str(folder / "site"), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_task_of_an_installed_package_is_listed_and_runs_by_its_entry_point(
    installed: Path, pipeline: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = pipeline(PIPELINE.format(uses="pretext/upside_down"))
    assert (
        "unknown stage 'pretext/upside_down'"
        in command_line("status", file, cwd=tmp_path, check=2).stderr
    )
    monkeypatch.setenv("PYTHONPATH", str(installed))
    listed = command_line("list", "pretexts", cwd=tmp_path).stdout
    entry = (
        r"^pretext/upside_down +Is the image upside down\?\n"
        r" +Third party, unpublished; needs upright images$"
    )
    assert re.search(entry, listed, re.MULTILINE)
    described = command_line("list", "pretexts", "upside_down", cwd=tmp_path).stdout
    assert re.search(
        r"^  share +share of the images that are turned\n +\(number, > 0, < 1, default 0.5\)",
        described,
        re.MULTILINE,
    )
    done = command_line("run", file, "--smoke", "--threads", 1, cwd=tmp_path).stdout
    assert re.search(r"^pretext: done .*accuracy", done, re.MULTILINE)
    assert "features: done" in done
    again = command_line(
        "run", file, "--smoke", "--set", "stages.pretext.share=0.25", "-n", cwd=tmp_path
    ).stdout
    assert re.search(r"pretext +pretext/upside_down +to run +share 0.5 → 0.25", again)


FAULTY_POINTS = {
    "pretext/gone": (
        "nothing_of_that_name:Task",
        "of faulty fails on import: ModuleNotFoundError: No module named 'noth",
    ),
    "pretext/fails": (
        "faulty_import:Task",
        "of faulty fails on import: ZeroDivisionError: division by zero",
    ),
    "pretext/exits": ("faulty_exit:Task", "of faulty fails on import: SystemExit: 3"),
    "pretext/misspelt": ("faulty:Taks", "of faulty: faulty has no 'Taks'; did you mean 'Task'?"),
    "pretext/module": ("faulty", "of faulty: faulty has no ''"),
    "pretext/function": (
        "faulty:function",
        "of faulty: faulty:function is not a Stage (it is <function",
    ),
    "pretext/number": ("faulty:number", "of faulty: faulty:number is not a Stage (it is 5)"),
    "pretext/base": (
        "faulty:Pretext",
        "",
    ),  # the base itself: its two functions are found missing before anything runs
}
FAULTY = """
from transfer.training.pretext_task import Pretext


class Task(Pretext):
    pass


def function():
    pass


number = 5
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in which a package offers stages that cannot be used."""
    site = tmp_path / "site"
    (site / "faulty-1.0.dist-info").mkdir(parents=True)
    (site / "faulty.py").write_text(FAULTY, encoding="utf-8")
    (site / "faulty_import.py").write_text("1 / 0", encoding="utf-8")
    (site / "faulty_exit.py").write_text("raise SystemExit(3)", encoding="utf-8")
    (site / "faulty-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n"
    )
    points = "".join(f"{name} = {value}\n" for name, (value, _) in FAULTY_POINTS.items())
    (site / "faulty-1.0.dist-info" / "entry_points.txt").write_text(f"[transfer.stages]\n{points}")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


@pytest.mark.slow
def test_stages_of_a_package_that_cannot_be_used_are_told_together_and_hide_no_other(
    faulty: Path, pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    names = [name for name, (_, words) in FAULTY_POINTS.items() if words]
    lines = "".join(f"  s{i}: {{uses: {name}}}\n" for i, name in enumerate(names))
    file = pipeline(f"data: drawings\nstages:\n{lines}")
    said = command_line("run", file, cwd=tmp_path, check=2).stderr.splitlines()
    for i, name in enumerate(names):
        assert said[i].startswith(f"{file}:{3 + i}:8: stages.s{i}.uses: ")
        assert FAULTY_POINTS[name][1] in said[i]
    assert said[-1] == f"{len(names)} faults; nothing was started"
    listed = command_line("list", "pretexts", cwd=tmp_path).stdout
    assert re.search(
        r"^pretext/fails +cannot be used: stage 'pretext/fails' of faulty fails on import",
        listed,
        re.MULTILINE,
    )
    assert re.search(r"^pretext/jigsawpp +[A-Z]", listed, re.MULTILINE)
    said = command_line(
        "run", pipeline(PIPELINE.format(uses="pretext/base")), "--smoke", cwd=tmp_path, check=2
    ).stderr
    assert "stages.pretext: cannot be checked: " in said


# A file.


def test_the_file_in_the_readme_fits_on_a_screen_and_runs(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    assert len(SECTION.strip().splitlines()) <= 40
    assert len(SHUFFLE.splitlines()) <= 40
    assert max(map(len, SHUFFLE.splitlines())) <= 120
    (tmp_path / "my_method.py").write_text(SHUFFLE, encoding="utf-8")
    file = pipeline(PIPELINE.format(uses="my_method.py:Shuffle"))
    said = invoke("run", file, "--smoke", "--threads", 1).out
    assert re.search(r"^pretext: done .*accuracy", said, re.MULTILINE)
    assert "features: done" in said
    assert "nothing to do" in invoke("run", file, "--smoke").out
    described = invoke("list", "pretexts", "my_method.py:Shuffle").out
    assert "In which of 24 orders are the four quarters of the image?" in described
    assert re.search(
        r"hidden_dim +values of the hidden layer\n +\(whole number, >= 1, default 256\)", described
    )


@pytest.mark.slow
def test_the_task_in_the_readme_is_learned(tmp_path: Path) -> None:
    from transfer.datasets.drawings import render

    (tmp_path / "my_method.py").write_text(SHUFFLE, encoding="utf-8")
    kind: Any = find_stage("my_method.py:Shuffle", tmp_path)
    images = pack_images(tmp_path / "set", render.render("train", range(64)))
    work = make_work(tmp_path, {"images": images})
    kind(backbone="conv4", epochs=60, batch_size=32, optimizer="adamw", learning_rate=3e-3).run(
        work
    )
    history = Model(work.folder).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[-1]["accuracy"] > 4 * kind(backbone="conv4").chance(None)


def changed(old: str, new: str) -> str:
    assert old in SHUFFLE
    return SHUFFLE.replace(old, new)


NETWORK = 'return nn.ModuleDict({"backbone": backbone, "head": head})'
LOSS = "return F.cross_entropy(logits, labels), {"
FIGURES = '{"accuracy": accuracy}'
MEAN = "(logits.argmax(1) == labels).float().mean()"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            changed("normalize, option", "normalize, opinion"),
            "fails on import: ImportError: cannot import name 'opinion'",
        ),
        (
            changed("class Shuffle(Pretext)", "class Shuffled(Pretext)"),
            "has no 'Shuffle'; did you mean 'Shuffled'?",
        ),
        (changed("class Shuffle(Pretext)", "class Shuffle"), "is not a Stage"),
        (
            changed(NETWORK, 'return nn.ModuleDict({"head": head})'),
            "Shuffle.network must return a ModuleDict whose entry",
        ),
        (
            changed(NETWORK, "return head"),
            "Shuffle.network must return a ModuleDict whose entry `backbone` is",
        ),
        (changed(NETWORK, "head"), "Shuffle.network must return a ModuleDict"),
        (
            changed('"backbone": backbone', '"backbone": backbone.conv1'),
            "Shuffle.network must return a ModuleDict",
        ),
        (
            changed("width = 4", "width = None"),
            "stages.pretext: cannot be checked: ",
        ),
        (changed("dataset.size // 2)", "dataset.size // 20)"), "cannot take images of 1 px"),
    ],
)
def test_what_is_wrong_with_a_task_is_told_before_anything_runs(
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
    code: str,
    words: str,
) -> None:
    (tmp_path / "my_method.py").write_text(code, encoding="utf-8")
    file = pipeline(PIPELINE.format(uses="my_method.py:Shuffle"))
    said = invoke("run", file, "--smoke", "--threads", 1, check=2)
    assert said.err.startswith(f"{file}:4:")
    assert words in said.err
    assert "done" not in said.out


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            changed("labels), {", "labels, reduction='none'), {"),
            "it returned a loss of shape (16,)",
        ),
        (
            changed(f"{LOSS[:-3]}, {FIGURES}", "return F.cross_entropy(logits, labels)"),
            "it returned one Tensor",
        ),
        (changed(f"{LOSS[:-3]}, {FIGURES}", "pass"), "it returned one NoneType"),
        (changed(LOSS, "return 0.5, {"), "it returned a float as loss"),
        (
            changed(LOSS, "return F.cross_entropy(logits, labels).detach(), {"),
            "it returned a loss without gradients",
        ),
        (changed(FIGURES, "[1]"), "it returned a list as figures"),
        (
            changed(MEAN, MEAN.removesuffix(".mean()")),
            "it returned 'accuracy', which is not a scalar tensor",
        ),
        (
            changed(MEAN, f"{MEAN}.item()"),
            "it returned 'accuracy', which is not a scalar tensor",
        ),
        (
            changed("side, labels =", "side, labels, _ ="),
            "pretext: ValueError: not enough values to unpack",
        ),
        (
            changed(LOSS, "return F.cross_entropy(logits, labels) / 0, {"),
            "the loss is not finite in epoch 1",
        ),
    ],
)
def test_what_is_known_only_when_a_task_runs_is_told_then(
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
    code: str,
    words: str,
) -> None:
    (tmp_path / "my_method.py").write_text(code, encoding="utf-8")
    said = invoke(
        "run",
        pipeline(PIPELINE.format(uses="my_method.py:Shuffle")),
        "--smoke",
        "--threads",
        1,
        check=1,
    )
    assert words in said.err
    assert "To resume: transfer run" in said.err
    if "it returned" in words:
        assert (
            "Shuffle.loss must return the loss, a scalar tensor with gradients, "
            "and a dict of figures" in said.err
        )


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_task_that_fails_beside_others_does_not_take_them_along(
    pipeline: Callable[..., Path], tmp_path: Path, jobs: int
) -> None:
    (tmp_path / "my_method.py").write_text(changed(LOSS, "return 0.5, {"), encoding="utf-8")
    text = (
        PIPELINE.format(uses="my_method.py:Shuffle")
        + "  other: {uses: pretext/random, backbone: conv4}\n"
    )
    done = command_line(
        "run", pipeline(text), "--smoke", "--threads", 2, "-k", "-j", jobs, cwd=tmp_path, check=1
    )
    assert "Shuffle.loss must return" in done.stderr
    assert "features: not run, since pretext failed" in done.stderr
    assert "other: done" in done.stdout


ORDERED = """
from transfer.artifacts import Scores
from transfer.stage.base import ImageInput, Stage


class Order(Stage):
    \"""Whether images come in the order of their ids.\"""

    produces = Scores
    images = {"test": ImageInput("test")}

    def run(self, context):
        ids = context.images["test"].ids
        figures = {"ordered": 100.0 * (ids == sorted(ids))}
        facts = dict(protocol="order/v1", settings={}, selected={}, counts={"test": len(ids)})
        Scores.write(context.folder, main="ordered", figures=figures, **facts)
        context.figures.update(figures)
"""


@pytest.mark.slow
def test_a_protocol_is_given_images_in_the_order_of_their_ids(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    file = pipeline(
        "data: {card: drawings, limit: 20, size: 32}\nstages:\n  order: {uses: order.py:Order}\n"
    )
    file.with_name("order.py").write_text(ORDERED, encoding="utf-8")
    assert "ordered 100" in command_line("run", file, cwd=tmp_path).stdout
