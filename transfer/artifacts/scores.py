"""Scores: the result of an evaluation protocol."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.artifacts.base import Artifact, JsonCard, write_json
from transfer.numerics.confidence_intervals import bootstrap_mean
from transfer.storage.hdf5_tables import TableReader, write_table
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

NOT_SCORED = ("train", "selection", "labels")  # first words of counts of images that are not scored


@dataclass(frozen=True)
class ScoreCard:
    """`scores.json`. Only `protocol` and `figures` are in files of older formats."""

    protocol: str
    settings: dict[str, Any]
    selected: dict[str, Any]  # what was chosen on validation images, such as a layer
    main: str  # the figure that a comparison shows
    figures: dict[str, float]  # in percent
    intervals: dict[str, list[float]]  # figure -> [low, high], 95 %
    counts: dict[str, int]  # number of images of each split

    @classmethod
    def from_json(cls, path: Path) -> ScoreCard:
        """Read `scores.json`; CorruptArtifact if a field is missing or of a wrong type."""
        card = JsonCard(path)
        return cls(
            protocol=card.field("protocol", str),
            settings=card.field("settings", dict, {}),
            selected=card.field("selected", dict, {}),
            main=card.field("main", str, ""),
            figures=card.field("figures", dict),
            intervals=card.field("intervals", dict, {}),
            counts=card.field("counts", dict, {}),
        )

    @property
    def is_complete(self) -> bool:
        """Whether the main figure is known, which older formats lack."""
        return self.main in self.figures


class Scores(Artifact):
    """`scores.json`: protocol, settings, figures; `scores.h5`: arrays for plots.

    Column `outcome.FIGURE` of `scores.h5` has a value per test image, whose mean is the figure.
    Intervals come from bootstrap over test images.
    """

    required = ("scores.json",)

    @cached_property
    def card(self) -> ScoreCard:
        """The facts in `scores.json`."""
        return ScoreCard.from_json(self.folder / "scores.json")

    @property
    def figures(self) -> dict[str, float]:
        """Figure -> value in percent."""
        return self.card.figures

    def shown_figures(self) -> dict[str, str]:
        """Figure -> `92.1 % [90.8, 93.4]`, the main one first; the interval is over images."""
        card, texts = self.card, {}
        for name in sorted(card.figures, key=lambda name: name != card.main):
            ends = card.intervals.get(name)
            span = f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else ""
            texts[name] = f"{card.figures[name]:.1f} %{span}"
        return texts

    def outcomes(self, figure: str) -> numpy.ndarray | None:
        """Return (N,) values of the test images, sorted by id; None if the figure is not a mean."""
        table = TableReader(self.folder / "scores.h5")
        return table.read(f"outcome.{figure}") if f"outcome.{figure}" in table else None

    @staticmethod
    def tested(counts: dict[str, int]) -> int | None:
        """Return the number of scored images in a card's `counts`; None if it is missing."""
        scored = (count for name, count in counts.items() if not name.startswith(NOT_SCORED))
        return next(scored, None)

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
        """Write the files of Scores.

        Args:
            folder: the artifact's folder.
            protocol: the protocol's name.
            settings: its settings.
            selected: what was chosen, and on which split.
            main: the figure that a comparison shows.
            figures: figure -> value in percent.
            counts: split -> number of images.
            outcomes: figure -> (N,) values of the test images, from which the interval is computed.
            intervals: figure -> [low, high] of other figures.
            arrays: more columns of `scores.h5`, for plots.
        """
        outcomes = outcomes or {}
        estimates = {name: bootstrap_mean(values) for name, values in outcomes.items()}
        computed = {name: list(span.interval or ()) for name, span in estimates.items()}
        card = {
            "protocol": protocol,
            "settings": settings,
            "selected": selected,
            "main": main,
            "figures": figures,
            "intervals": computed | (intervals or {}),
            "counts": counts,
        }
        write_json(folder / "scores.json", card)
        columns = {
            f"outcome.{name}": np.asarray(values, np.float32) for name, values in outcomes.items()
        }
        write_table(folder / "scores.h5", columns | (arrays or {}))
