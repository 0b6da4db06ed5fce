"""Facts as text: plurals of counts, and units of figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Said, Tiny
from transfer.inspection.doctor import doctor_text
from transfer.inspection.option_descriptions import description_lines
from transfer.utils.formatting import named_figure_text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.92149, "92.1 %"),
        ("accuracy", 1.0, "100.0 %"),
        ("discriminator accuracy", 0.5, "50.0 %"),
        ("images", 50000, "50,000"),
        ("loss", 0.693147, "0.6931"),
        ("best", "conv5 92.1 %", "conv5 92.1 %"),
        ("converged", True, "True"),
    ],
)
def test_figure_has_its_unit(name: str, value: Any, text: str) -> None:
    assert named_figure_text(name, value) == text


def test_results_have_units(invoke: Callable[..., Said], finished: Tiny) -> None:
    words = ["show", finished.file, "--store", finished.store]
    lines = {line.split()[0]: line for line in invoke(*words).out.splitlines()}
    assert re.search(r" accuracy \d+\.\d %, ", lines["pretext"])
    assert lines["drawings/test"].endswith(" images 1,000")
    assert re.search(r"^  accuracy: \d+\.\d %$", invoke(*words, "pretext").out, re.MULTILINE)


def test_input_of_images_is_called_images(invoke: Callable[..., Said], finished: Tiny) -> None:
    words = ["--store", finished.store]
    assert "\n  reads images: " in invoke("show", finished.file, "pretext", *words).out
    assert "-->|images| " in invoke("graph", finished.file, *words, "--mermaid").out
    status = invoke("status", finished.file, *words, "--set", "data.limit=65").out
    assert re.search(r"^  pretext +to run +images changed$", status, re.MULTILINE)


@pytest.mark.parametrize(("threads", "text"), [(1, "1 thread"), (2, "2 threads")])
def test_doctor_counts_threads(threads: int, text: str) -> None:
    facts = {
        "transfer": "1",
        "python": "3",
        "platform": "Linux",
        "versions": {},
        "extras": {},
        "cores": {"total": 4, "usable": 2, "quota": None},
        "memory": {"total": None, "available": None, "limit": None},
        "faiss": "faiss-cpu",
        "gpus": [],
        "gpu bytes": [],
        "cuda": None,
        "device": "cpu",
        "precision": "float32",
        "threads": threads,
        "store": "store",
        "free bytes": 1,
        "problems": [],
    }
    shown = doctor_text(facts)
    assert f"a run uses cpu, float32, {text}\n" in shown
    assert "cores: 2 of 4 usable\nmemory: unknown\n" in shown


def test_option_without_effect_names_the_condition() -> None:
    option = {
        "name": "k",
        "type": "number",
        "default": "1",
        "help": "h",
        "applies_when": "`head: mlp`",
    }
    assert description_lines([option]) == [
        "  k  h",
        "     (number, default 1, has no effect unless `head: mlp`)",
    ]
