"""Knowledge transfer for self-supervised vision: a small network learns what a deep one knows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.version import __version__

if TYPE_CHECKING:
    from transfer.api import Pipeline
    from transfer.export.loaded_model import LoadedModel

__all__ = ["__version__", "load", "load_model"]


def load(
    path: str | Path,
    *,
    sets: Sequence[str] = (),
    smoke: bool = False,
    store: str | Path | None = None,
    stages: Sequence[str] = (),
) -> Pipeline:
    """Read a pipeline file: `transfer.load("pipelines/x.yaml").run()`.

    Args:
        path: the pipeline file.
        sets: replacements, as for `--set`: "stages.clusters.k=100".
        smoke: make every stage small; the results go to a store of their own.
        store: the folder of the results; by default `.transfer/` beside the pipelines' folder.
        stages: plan only these and their dependencies, and look at no other images.
    """
    from transfer.api import Pipeline

    return Pipeline.load(path, sets=sets, smoke=smoke, store=store, stages=stages)


def load_model(folder: str | os.PathLike[str]) -> LoadedModel:
    """Load what `transfer export` wrote: `transfer.load_model("exported").embed("photo.jpg")`."""
    from transfer.export.loaded_model import load_model

    return load_model(folder)
