"""Clusters: the centroids of features."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from transfer.artifacts.base import Artifact
from transfer.storage.hdf5_tables import TableReader

if TYPE_CHECKING:
    import numpy


class Clusters(Artifact):
    """`clusters.h5`: `centroids` (k, D) float32, `sizes` (k,), `objective` (iterations + 1,); `space` of the features.

    The objective is the sum of squared distances at the start of each iteration, and last that of the centroids.
    """

    required = ("clusters.h5",)

    @cached_property
    def table(self) -> TableReader:
        return TableReader(self.folder / "clusters.h5")

    @property
    def space(self) -> dict[str, Any]:
        return self.table.attributes["space"]

    @cached_property
    def centroids(self) -> numpy.ndarray:
        return self.table.read("centroids")

    @cached_property
    def sizes(self) -> numpy.ndarray:
        return self.table.read("sizes")

    @cached_property
    def objective(self) -> numpy.ndarray:
        return self.table.read("objective")
