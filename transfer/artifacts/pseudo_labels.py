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
    """`labels.h5` and `labels.csv`: for each image id its label, its distance, its distance to the runner-up.

    Labels are compact (0 to the number of non-empty clusters - 1); `cluster_ids` maps them back to the clusters.
    """

    required = ("labels.h5", "labels.csv")

    @cached_property
    def table(self) -> TableReader:
        return TableReader(self.folder / "labels.h5")

    @cached_property
    def ids(self) -> list[str]:
        return self.table.strings("ids")

    @cached_property
    def labels(self) -> numpy.ndarray:
        return self.table.read("labels")

    @cached_property
    def cluster_ids(self) -> numpy.ndarray:
        return self.table.read("cluster_ids")

    @property
    def count(self) -> int:
        """Number of distinct labels: what a classifier's last layer needs."""
        return len(self.cluster_ids)

    @property
    def k(self) -> int:
        """Number of clusters, with those that no image fell into."""
        return int(self.table.attributes["k"])

    def of(self, ids: list[str]) -> numpy.ndarray:
        """(len(ids),) int64: the label of each image id, -1 where there is none."""
        label = dict(zip(self.ids, self.labels.tolist(), strict=True))
        return np.array([label.get(one, -1) for one in ids], dtype=np.int64)

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
        """All arrays (N,) in the order of `ids`, but `cluster_ids` (number of labels,)."""
        columns = {"labels": labels, "distance": distance, "runner_up": runner_up}
        write_table(
            folder / "labels.h5",
            {"ids": encode_strings(ids), "cluster_ids": cluster_ids, **columns},
            **attributes,
        )
        with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", *columns])
            writer.writerows(
                zip(
                    ids,
                    labels.tolist(),
                    *([f"{v:.6g}" for v in c.tolist()] for c in (distance, runner_up)),
                    strict=True,
                )
            )
