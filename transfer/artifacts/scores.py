"""Scores: what a protocol found."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.artifacts.base import Artifact, write_json
from transfer.numerics.confidence_intervals import bootstrap_mean
from transfer.storage.hdf5_tables import TableReader, write_table
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

TAUGHT = ("train", "selection", "labels")  # what counts of other than scored images begin with


class Scores(Artifact):
    """`scores.json`: the protocol, what was selected on which split, every figure with its n; `scores.h5` for plots.

    `main` names the figure that a comparison shows. `intervals`: figure -> [low, high], 95 %, by bootstrap over test
    images. Column `outcome.FIGURE` of `scores.h5`: what each test image adds to a figure that is their mean.
    """

    required = ("scores.json",)

    @cached_property
    def card(self) -> dict[str, Any]:
        return self._json("scores.json")

    @property
    def figures(self) -> dict[str, float]:
        return self.card["figures"]

    def outcomes(self, figure: str) -> numpy.ndarray | None:
        """(N,) what each test image adds to a figure, in the order of their ids; None for what is no mean."""
        table = TableReader(self.folder / "scores.h5")
        return table.read(f"outcome.{figure}") if f"outcome.{figure}" in table else None

    @staticmethod
    def tested(counts: dict[str, int]) -> int | None:
        """How many images were scored, as a card's `counts` say; None where they do not."""
        return next((count for name, count in counts.items() if not name.startswith(TAUGHT)), None)

    @staticmethod
    def write(
        folder: Path,
        *,
        protocol: str,
        settings: dict[str, Any],
        selected: dict[str, Any],
        main: str,
        figures: dict[str, float],
        counts: dict[str, int],
        outcomes: dict[str, numpy.ndarray] | None = None,
        intervals: dict[str, list[float]] | None = None,
        arrays: dict[str, numpy.ndarray] | None = None,
    ) -> None:
        """`counts`: how many images each split had; `selected`: what was chosen, and on which split.

        Figures in percent. Of those with `outcomes` the interval is computed here; a protocol gives others itself.
        """
        spans = {name: bootstrap_mean(values) for name, values in (outcomes or {}).items()}
        card = {
            "protocol": protocol,
            "settings": settings,
            "selected": selected,
            "main": main,
            "figures": figures,
            "intervals": {name: [span.low, span.high] for name, span in spans.items()}
            | (intervals or {}),
            "counts": counts,
        }
        write_json(folder / "scores.json", card)
        columns = {
            f"outcome.{name}": np.asarray(values, np.float32)
            for name, values in (outcomes or {}).items()
        }
        write_table(folder / "scores.h5", columns | (arrays or {}))
