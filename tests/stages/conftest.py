"""Fixtures that run a stage on handmade features, without a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transfer.artifacts import Features
from transfer.stage.context import StageContext, StopFlag
from transfer.storage.hdf5_tables import encode_strings, write_table
from transfer.utils.runtime import Runtime

SPACE = {"model": "teacher", "layer": "conv5", "pool": 1, "pooling": "max"}


@pytest.fixture
def features_of(tmp_path: Path) -> Callable[..., Features]:
    """Features of (N, D) values, as a stage writes them; their ids are not sorted."""

    def write(
        values: np.ndarray,
        name: str = "features",
        dtype: str = "float32",
        of: str = "",
        **facts: Any,
    ) -> Features:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        ids = encode_strings([f"{of or name}/{(7 * row) % 10007:05}" for row in range(len(values))])
        columns = {"features": values.astype(dtype), "ids": ids, "labels": np.arange(len(values))}
        known = {"space": SPACE, "layer": "conv5", "images": "images", "preparation": []}
        write_table(folder / "features.h5", columns, **(known | facts))
        return Features(folder)

    return write


@pytest.fixture
def work_for(tmp_path: Path) -> Callable[..., StageContext]:
    """A context on one CPU thread; a repeated name resumes the run from its checkpoints."""

    def make(name: str = "work", seed: int = 0, **inputs: Any) -> StageContext:
        folders = tmp_path / f"{name}.made", tmp_path / f"{name}.checkpoints"
        for folder in folders:
            folder.mkdir(exist_ok=True)
        keys = {option: f"{option} key" for option in inputs}
        runtime = Runtime("cpu", requested_threads=1)
        return StageContext(
            *folders,
            inputs,
            {},
            runtime,
            seed,
            StopFlag(),
            name,
            f"key of {name}",
            keys,
            quiet=True,
        )

    return make


@pytest.fixture
def blobs() -> Callable[..., np.ndarray]:
    """(n, d) float32 rows around `k` distant centers."""

    def draw(
        n: int = 400, d: int = 8, k: int = 5, seed: int = 0, apart: float = 10.0
    ) -> np.ndarray:
        random = np.random.default_rng(seed)
        centers = apart * random.standard_normal((k, d))
        return (centers[np.arange(n) % k] + random.standard_normal((n, d))).astype(np.float32)

    return draw
