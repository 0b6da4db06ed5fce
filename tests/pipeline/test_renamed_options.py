"""Former names of options and of their values are refused, and the present ones are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TINY, Said
from transfer.stage.registry import builtin_names, find_stage
from transfer.stage.renamed_options import RENAMED_OPTIONS, renamed_option

HERE = Path(__file__).parent
OF_CARDS = {"licence"}  # a key of cards of image sets, not an option of a stage


def stages_with(former: str) -> dict[str, str]:
    """Map each stage that had an option `former` to the present name of it."""
    renamed = {}
    for uses in builtin_names():
        options = find_stage(uses, HERE).model_fields
        present = renamed_option(former, options)
        if present is not None and former not in options:
            renamed[uses] = present
    return renamed


@pytest.mark.parametrize("former", sorted(RENAMED_OPTIONS.keys() - OF_CARDS))
def test_former_option_is_refused_with_present_one(
    former: str, invoke: Callable[..., Said], pipeline: Callable[..., Path]
) -> None:
    renamed = stages_with(former)
    assert renamed, f"no stage has an option that was called {former}"
    lines = [f"  s{i}: {{uses: {uses}, {former}: 1}}\n" for i, uses in enumerate(renamed)]
    file = pipeline("data: {card: drawings, limit: 32}\nstages:\n" + "".join(lines))
    faults = invoke("run", file, check=2).err
    for i, (line, present) in enumerate(zip(lines, renamed.values(), strict=True)):
        place = f"{file}:{3 + i}:{line.index(f'{former}: 1') + 1}"
        assert f"{place}: stages.s{i}.{former}: `{former}` is called `{present}`" in faults


def test_former_option_of_set_is_refused_with_present_one(
    invoke: Callable[..., Said], pipeline: Callable[..., Path]
) -> None:
    faults = invoke("run", pipeline(TINY), "--set", "stages.target.batch=8", check=2).err
    assert faults.splitlines() == [
        "transfer: --set stages.target.batch=8: stages.target.batch: "
        "`batch` is called `batch_size`",
        "1 fault; nothing was started",
    ]


@pytest.mark.parametrize(
    ("options", "former", "present"),
    [
        ("{uses: prepare, features: features, steps: [centre]}", "centre", "center"),
        ("{uses: prepare, features: features, steps: [l2, standardise]}", "standardise", None),
        ("{uses: pretext/inpainting, mask: middle}", "middle", "center"),
    ],
)
def test_former_value_is_refused_with_present_one(
    options: str,
    former: str,
    present: str | None,
    invoke: Callable[..., Said],
    pipeline: Callable[..., Path],
) -> None:
    faults = invoke("run", pipeline(f"{TINY}  other: {options}\n"), check=2).err
    present = present or "standardize"
    assert re.search(rf"\(found '{former}'\); `{former}` is called `{present}`$", faults, re.M)


PLUGIN = """
from transfer.plugin import Model, Stage, option


class Mine(Stage):
    \"\"\"Has an option that others had once.\"\"\"

    produces = Model
    batch: int = option(4, "images in a batch")

    def run(self, context):
        pass
"""


def test_former_name_is_free_for_the_options_of_a_plugin(
    invoke: Callable[..., Said], pipeline: Callable[..., Path]
) -> None:
    pipeline(PLUGIN, "mine.py")
    file = pipeline("stages:\n  mine: {uses: 'mine.py:Mine', batch: 8}\n")
    assert "to run" in invoke("status", file).out
    file = pipeline("stages:\n  mine: {uses: 'mine.py:Mine', batch_size: 8}\n")
    assert "unknown option; did you mean 'batch'?" in invoke("status", file, check=2).err
