"""What a planned stage depends on: the stages upstream of it, and its images."""

from __future__ import annotations

from typing import Any

from transfer.stage.base import PlannedPack, PlannedStage


def upstream_stages(planned: PlannedStage[Any], images: bool = False) -> list[PlannedStage[Any]]:
    """Return the dependencies of a stage in topological order, ending with the stage itself.

    Args:
        planned: the stage.
        images: include the stages that pack images.
    """
    ordered: dict[str, PlannedStage[Any]] = {}

    def visit(planned: PlannedStage[Any]) -> None:
        if planned.key in ordered:
            return
        for dependency in (planned.dependencies if images else planned.inputs).values():
            visit(dependency)
        ordered[planned.key] = planned

    visit(planned)
    return list(ordered.values())


def source_pack(planned: PlannedStage[Any]) -> PlannedPack | None:
    """Return the packed images of a stage, or of the nearest one upstream; None if none has any."""
    while not planned.images:
        if not planned.inputs:
            return None
        planned = next(iter(planned.inputs.values()))
    return next(iter(planned.images.values()))
