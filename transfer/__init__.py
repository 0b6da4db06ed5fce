"""Knowledge transfer for self-supervised vision: a small network learns what a deep one knows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transfer.version import __version__

if TYPE_CHECKING:
    from transfer.api import Pipeline
    from transfer.comparison.score_comparison import ScoreComparison
    from transfer.export.loaded_model import LoadedModel

__all__ = ["__version__", "compare", "load", "load_model"]


def load(
    path: str | os.PathLike[str],
    *,
    sets: Sequence[str] | Mapping[str, Any] = (),
    smoke: bool = False,
    store: str | os.PathLike[str] | None = None,
    stages: Sequence[str] = (),
) -> Pipeline:
    """Read a pipeline file: `transfer.load("pipelines/x.yaml").run()`.

    Args:
        path: the pipeline file.
        sets: replacements, as for `--set`, ["stages.clusters.k=100"], or values by their paths,
            {"stages.clusters.k": 100, "data": Path("photos")}.
        smoke: make every stage small; the results go to a store of their own.
        store: the folder of the results; by default `.transfer/` beside the pipelines' folder.
        stages: plan only these and their dependencies, and look at no other images.
    """
    from transfer.api import Pipeline

    return Pipeline.load(path, sets=sets, smoke=smoke, store=store, stages=stages)


def compare(
    pipelines: Sequence[Pipeline | str | os.PathLike[str]],
    *,
    stages: Sequence[str] = (),
    protocols: Sequence[str] = (),
    paired: bool = False,
) -> ScoreComparison:
    """Compare the finished scores of several pipelines: `print(transfer.compare([a, b]))`.

    UsageError where two measured the same in different ways; TransferError where no score is
    finished.

    Args:
        pipelines: what `load` returned, or the paths of pipeline files.
        stages: compare only these evaluation stages.
        protocols: compare only these protocols.
        paired: where there is one seed, pair test images for intervals of differences.
    """
    from transfer.api import Pipeline
    from transfer.comparison.score_comparison import compare_scores
    from transfer.utils.argument_checks import list_argument

    opened = [
        pipeline if isinstance(pipeline, Pipeline) else Pipeline.load(pipeline)
        for pipeline in list_argument("pipelines", pipelines, "pipelines or paths of their files")
    ]
    return compare_scores(list(dict.fromkeys(opened)), stages, protocols, paired)


def load_model(folder: str | os.PathLike[str]) -> LoadedModel:
    """Load what `transfer export` wrote: `transfer.load_model("exported").embed("photo.jpg")`."""
    from transfer.export.loaded_model import load_model

    return load_model(folder)
