"""Features: what a layer says of every image."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from transfer.artifacts.base import Artifact
from transfer.storage.hdf5_tables import TableReader
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    import numpy

    from transfer.numerics.feature_transforms import Step


class Features(Artifact):
    """`features.h5`: `features` (N, D) float16 or float32, `ids` (N,), `labels` (N,) where the set has them.

    Attributes: `space` (which network, layer, pooling and preparation made them: features of one space can be
    compared), `layer`, `images` (key of the image set), and `preparation`, all steps that they went through. Prepared
    ones also have `source`, the space before, and `steps`, those that `preparation.h5` beside it holds.
    """

    required = ("features.h5",)

    @cached_property
    def table(self) -> TableReader:
        return TableReader(self.folder / "features.h5")

    @property
    def attributes(self) -> dict[str, Any]:
        return self.table.attributes

    @property
    def space(self) -> dict[str, Any]:
        return self.attributes["space"]

    @property
    def shape(self) -> tuple[int, int]:
        rows, dimensions = self.table.shapes["features"]
        return rows, dimensions

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def ids(self) -> list[str]:
        return self.table.strings("ids")

    @cached_property
    def labels(self) -> numpy.ndarray | None:
        return self.table.read("labels") if "labels" in self.table else None

    def blocks(self, rows: int | None = None) -> Iterator[tuple[int, numpy.ndarray]]:
        """(first row, float32 block) over all features; a block is about 16 MB unless `rows` says otherwise."""
        rows = rows or max(1, (4 << 20) // max(1, self.shape[1]))
        for start, block in self.table.blocks("features", rows):
            yield (
                start,
                torch.from_numpy(block).float().numpy(),
            )  # 2.5 times as fast as numpy's own conversion


def load_steps(prepared: Features) -> list[Step]:
    """The fitted steps that prepared features went through last."""
    table, parts = TableReader(prepared.folder / "preparation.h5"), ("mean", "matrix", "scale")
    return [
        {part: table.read(f"{i}.{part}") for part in parts if f"{i}.{part}" in table}
        for i in range(len(prepared.attributes["steps"]))
    ]
