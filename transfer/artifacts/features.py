"""Features: the activations of a layer for every image."""

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

BLOCK_VALUES = 4 << 20  # float32 values of a block: 16 MB
STEP_PARTS = ("mean", "matrix", "scale")


class Features(Artifact):
    """`features.h5`: columns `features` (N, D) float16 or float32, `ids` (N,), maybe `labels` (N,).

    Attributes:
        space: the network, layer, pooling and preparation; features of one space are comparable.
        layer: the layer's name.
        images: the key of the packed images.
        preparation: the names of all preparation steps.
        source: of prepared features, the space before the last preparation.
        steps: of prepared features, the steps of the last preparation; `preparation.h5` has their
            values.
    """

    required = ("features.h5",)

    @cached_property
    def table(self) -> TableReader:
        """The table in `features.h5`."""
        return TableReader(self.folder / "features.h5")

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the table."""
        return self.table.attributes

    @property
    def space(self) -> dict[str, Any]:
        """The network, layer, pooling and preparation; features of one space are comparable."""
        return self.attributes["space"]

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        rows, dimensions = self.table.shapes["features"]
        return rows, dimensions

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def ids(self) -> list[str]:
        """The image id of each row."""
        return self.table.strings("ids")

    @cached_property
    def labels(self) -> numpy.ndarray | None:
        """(N,) int64, or None for images without labels."""
        return self.table.read("labels") if "labels" in self.table else None

    def blocks(self, rows: int | None = None) -> Iterator[tuple[int, numpy.ndarray]]:
        """Yield (first row, float32 block) over all rows, `rows` at a time (default: 16 MB)."""
        rows = rows or max(1, BLOCK_VALUES // max(1, self.shape[1]))
        for start, block in self.table.blocks("features", rows):
            # torch converts 2.5 times as fast as numpy.
            yield start, torch.from_numpy(block).float().numpy()


def load_steps(prepared: Features) -> list[Step]:
    """Return the fitted steps of the last preparation of `prepared`."""
    table = TableReader(prepared.folder / "preparation.h5")
    return [
        {part: table.read(f"{i}.{part}") for part in STEP_PARTS if f"{i}.{part}" in table}
        for i in range(len(prepared.attributes["steps"]))
    ]
