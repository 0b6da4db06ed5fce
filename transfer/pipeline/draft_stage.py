"""A stage of a pipeline file while it is checked: what could be read of it so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transfer.datasets.spec import ImageSpec
from transfer.pipeline.yaml_document import Node
from transfer.stage.base import Stage


@dataclass
class DraftStage:
    """A stage with its place in the file. A field is None where it is faulty, and reported."""

    name: str
    uses: str
    kind: type[Stage]
    node: Node
    stage: Stage | None
    seed: int | None
    data: ImageSpec | None
    data_faulty: bool = False
    note: str = ""

    @property
    def where(self) -> str:
        """Its path in the file."""
        return f"stages.{self.name}"

    def marks(self) -> dict[str, str]:
        """Option -> FILE:LINE:COLUMN; the empty name stands for the stage."""
        return {"": str(self.node.mark)} | {
            name: str(mark) for name, mark in self.node.keys.items()
        }

    def own_data(self) -> bool:
        """Whether the stage names an image set of its own."""
        return "data" in self.node.keys

    def option(self, name: str) -> Any:
        """The node of an option, or None."""
        return self.node.value.get(name)
