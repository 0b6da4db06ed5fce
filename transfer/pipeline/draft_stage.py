"""A stage of a pipeline file that is not fully checked yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transfer.datasets.spec import ImageSpec
from transfer.pipeline.document_nodes import Node
from transfer.stage.base import Stage


@dataclass
class DraftStage:
    """A stage with its place in the file; a field is None where a fault of it was reported."""

    name: str
    uses: str
    kind: type[Stage]
    node: Node
    stage: Stage | None
    seed: int | None
    data: ImageSpec | None
    data_faulty: bool = False
    note: str = ""
    smoke_limits: str = ""

    @property
    def where(self) -> str:
        """Its path in the file."""
        return f"stages.{self.name}"

    def marks(self) -> dict[str, str]:
        """Map each option to FILE:LINE:COLUMN; the empty name is the stage itself."""
        return {"": str(self.node.mark)} | {
            name: str(mark) for name, mark in self.node.keys.items()
        }

    def own_data(self) -> bool:
        """Whether the stage has its own `data`."""
        return "data" in self.node.keys

    def option(self, name: str) -> Any:
        """Return the node of an option, or None."""
        return self.node.value.get(name)
