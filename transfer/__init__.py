"""Knowledge transfer for self-supervised vision: what a deep network learned, in a small one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transfer.api import Pipeline
    from transfer.export.loaded_model import LoadedModel

__version__ = "0.1.0"


def load(path: str, **flags: object) -> Pipeline:
    """The pipeline file at `path`, ready to run from Python: `transfer.load("pipelines/x.yaml").run()`."""
    from transfer.api import Pipeline

    return Pipeline.load(path, **flags)


def load_model(folder: str) -> LoadedModel:
    """The model that `transfer export` wrote into `folder`: `transfer.load_model("exported").embed("photo.jpg")`."""
    from transfer.export.loaded_model import load_model

    return load_model(folder)
