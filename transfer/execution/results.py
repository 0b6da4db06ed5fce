"""What a run returns, the artifacts of its stages, and what it would do: both show a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from transfer.artifacts import Artifact
from transfer.errors import CorruptArtifact, did_you_mean
from transfer.execution.status import StageStatus
from transfer.utils.formatting import figure_texts, plural
from transfer.utils.repr_tables import ReprTable


class Results(dict[str, Artifact]):
    """Stage label -> its artifact, in the plan's order."""

    def __missing__(self, label: str) -> Artifact:
        raise KeyError(f"no result '{label}'{did_you_mean(str(label), self)}")

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> ReprTable:
        rows = [
            (label, type(artifact).__name__, _figures(artifact)) for label, artifact in self.items()
        ]
        caption = f"results of {plural(len(self), 'stage')}"
        return ReprTable(caption, ("stage", "artifact", "figures"), rows)


class RunPlan(Sequence[StageStatus]):
    """What a run would do: the status of each selected stage, in the order in which they run."""

    def __init__(self, name: str, statuses: Sequence[StageStatus]):
        """Join a pipeline's name and the statuses of its selected stages."""
        self.name, self.statuses = name, list(statuses)

    @property
    def pending(self) -> list[StageStatus]:
        """The stages that would run or resume."""
        return [status for status in self.statuses if status.pending]

    @overload
    def __getitem__(self, index: int) -> StageStatus: ...

    @overload
    def __getitem__(self, index: slice) -> list[StageStatus]: ...

    def __getitem__(self, index: int | slice) -> StageStatus | list[StageStatus]:
        return self.statuses[index]

    def __len__(self) -> int:
        return len(self.statuses)

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> ReprTable:
        count = f"{len(self.pending)} of {plural(len(self), 'stage')} to run"
        caption = f"plan of {self.name}: {count if self.pending else 'nothing to do'}"
        return ReprTable(caption, STATUS_TITLES, [status_cells(status) for status in self])


STATUS_TITLES = ("stage", "uses", "artifact", "status", "reason")


def status_cells(status: StageStatus) -> tuple[str, ...]:
    """The cells of a stage in a table with STATUS_TITLES."""
    planned = status.planned
    notes = [status.reason, planned.note if planned.note not in status.reason else ""]
    kind = planned.stage.produces.__name__
    return planned.label, planned.uses, kind, status.status, "; ".join(filter(None, notes))


def _figures(artifact: Artifact) -> str:
    try:
        return ", ".join(figure_texts(artifact.shown_figures()))
    except CorruptArtifact:
        return "cannot be read"
