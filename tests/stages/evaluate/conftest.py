"""Fixtures of the evaluation protocols."""

from __future__ import annotations

import pytest

from tests.stages.handmade import pack_images
from transfer.artifacts import Images
from transfer.datasets.drawings import render


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Images]:
    folder = tmp_path_factory.mktemp("sets")
    return {
        split: pack_images(
            folder / split, render.render(split, range(n)), render.labels(split)[:n], split
        )
        for split, n in (("train", 100), ("test", 60))
    }
