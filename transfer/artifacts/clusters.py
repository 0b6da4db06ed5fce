"""Clusters: the centroids of features."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from transfer.artifacts.base import Artifact
from transfer.storage.hdf5_tables import TableReader

if TYPE_CHECKING:
    import numpy


class Clusters(Artifact):
    """`clusters.h5`: columns `centroids`, `sizes` and `objective`; attribute `space`."""

    required = ("clusters.h5",)

    @cached_property
    def table(self) -> TableReader:
        """The table in `clusters.h5`."""
        return TableReader(self.folder / "clusters.h5")

    @property
    def space(self) -> dict[str, Any]:
        """The space of the clustered features: see `Features.space`."""
        return self.table.attributes["space"]

    @cached_property
    def centroids(self) -> numpy.ndarray:
        """(k, D) float32."""
        return self.table.read("centroids")

    @cached_property
    def sizes(self) -> numpy.ndarray:
        """(k,) number of images in each cluster."""
        return self.table.read("sizes")

    @cached_property
    def objective(self) -> numpy.ndarray:
        """(iterations + 1,) sum of squared distances at each iteration's start, and at the end."""
        return self.table.read("objective")
