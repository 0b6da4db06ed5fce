"""Fixtures that read a pipeline file and collect its faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transfer.errors import UsageError
from transfer.pipeline.loader import load_plan
from transfer.pipeline.plan import Plan
from transfer.storage.store import Store


@pytest.fixture
def load(pipeline: Callable[..., Path], tmp_path: Path) -> Callable[..., Plan]:
    return lambda text, **flags: load_plan(pipeline(text), Store(tmp_path / "store"), **flags)


@pytest.fixture
def faults(load: Callable[..., Plan], tmp_path: Path) -> Callable[..., list[str]]:
    """The faults of a text, each without the file's path."""

    def find(text: str, **flags: Any) -> list[str]:
        with pytest.raises(UsageError) as caught:
            load(text, **flags)
        *lines, count = str(caught.value).splitlines()
        assert count == f"{len(lines)} fault{'s' if len(lines) > 1 else ''}; nothing was started"
        return [line.removeprefix(f"{tmp_path / 'pipeline.yaml'}:") for line in lines]

    return find
