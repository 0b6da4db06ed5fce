"""Fixtures of comparisons: a pipeline file with made-up scores, and the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Said
from transfer.api import Pipeline

Write = Make = Callable[..., Path]
Invoke = Callable[..., Said]


@pytest.fixture
def made(pipeline: Write, tmp_path: Path) -> Make:
    """Write a pipeline file and finish its stages in a store."""
    from tests.comparison.test_compare import finish

    def make(text: str, name: str = "pipeline.yaml", seeds: str = "[0, 1, 2]", **how: Any) -> Path:
        file = pipeline(text.replace("SEEDS", seeds), name)
        finish(Pipeline.load(file, store=tmp_path / "store"), **how)
        return file

    return make


@pytest.fixture
def compare(invoke: Invoke, tmp_path: Path) -> Invoke:
    """`transfer compare` with the store of `made`."""
    return lambda *words, check=0: invoke(
        "compare", *words, "--store", tmp_path / "store", check=check
    )
