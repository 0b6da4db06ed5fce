"""PseudoLabels: the cluster of every image."""

from __future__ import annotations

import csv
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.artifacts.base import Artifact
from transfer.storage.hdf5_tables import TableReader, encode_strings, write_table
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy


class PseudoLabels(Artifact):
    """`labels.h5` and `labels.csv`: the label of each image id, and two distances.

    Column `distance` is that to the image's centroid, `runner_up` that to the second nearest.
    Labels run from 0 to the number of non-empty clusters - 1; `cluster_ids` maps them to clusters.
    """

    required = ("labels.h5", "labels.csv")

    @cached_property
    def table(self) -> TableReader:
        """The table in `labels.h5`."""
        return TableReader(self.folder / "labels.h5")

    @cached_property
    def ids(self) -> list[str]:
        """The image id of each row."""
        return self.table.strings("ids")

    @cached_property
    def labels(self) -> numpy.ndarray:
        """(N,) int64: the label of each row."""
        return self.table.read("labels")

    @cached_property
    def cluster_ids(self) -> numpy.ndarray:
        """(labels,) int64: the cluster of each label."""
        return self.table.read("cluster_ids")

    @property
    def count(self) -> int:
        """The number of labels: the outputs that a classifier needs."""
        return len(self.cluster_ids)

    @property
    def k(self) -> int:
        """The number of clusters, empty ones included."""
        return int(self.table.attributes["k"])

    def of(self, ids: list[str]) -> numpy.ndarray:
        """Return (len(ids),) int64: the label of each image id, -1 for an unknown id."""
        labels = dict(zip(self.ids, self.labels.tolist(), strict=True))
        return np.array([labels.get(image_id, -1) for image_id in ids], dtype=np.int64)

    @staticmethod
    def write(
        folder: Path,
        ids: list[str],
        labels: numpy.ndarray,
        cluster_ids: numpy.ndarray,
        distance: numpy.ndarray,
        runner_up: numpy.ndarray,
        **attributes: Any,
    ) -> None:
        """Write the files of PseudoLabels.

        Args:
            folder: the artifact's folder.
            ids: (N,) image ids.
            labels: (N,) int64.
            cluster_ids: (labels,) int64, the cluster of each label.
            distance: (N,) distance to the nearest centroid.
            runner_up: (N,) distance to the second nearest centroid.
            attributes: JSON values that describe the table.
        """
        columns = {"labels": labels, "distance": distance, "runner_up": runner_up}
        write_table(
            folder / "labels.h5",
            {"ids": encode_strings(ids), "cluster_ids": cluster_ids, **columns},
            **attributes,
        )
        distances = [[f"{value:.6g}" for value in c.tolist()] for c in (distance, runner_up)]
        with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", *columns])
            writer.writerows(zip(ids, labels.tolist(), *distances, strict=True))
