"""Members of a matrix: groups, short labels, and samples where there are too many to show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from transfer.report.collect import ReportData, ReportStage
from transfer.stage.base import PlannedStage
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.formatting import member_label
from transfer.utils.lazy_imports import np, torch

SHOWN_MEMBERS = 4  # of a matrix
StageT = TypeVar("StageT", bound=ReportStage)


@dataclass(frozen=True)
class HiddenMembers:
    """The members that are not shown, and a command that shows one of them."""

    count: int
    command: str


def group_by_name(stages: Iterable[StageT]) -> dict[str, list[StageT]]:
    """Stage name -> its members."""
    groups: dict[str, list[StageT]] = {}
    for stage in stages:
        groups.setdefault(stage.planned.name, []).append(stage)
    return groups


def short_labels(stages: Sequence[PlannedStage[Any]], excluded: Sequence[str] = ()) -> list[str]:
    """A label of each stage: the matrix variables in which they differ, else the stage's name.

    Args:
        stages: members of one matrix.
        excluded: variables that no label names.
    """
    names = dict.fromkeys(
        name for planned in stages for name in planned.member if name not in excluded
    )
    varying = [
        name for name in names if len({str(planned.member.get(name)) for planned in stages}) > 1
    ]
    labels = []
    for planned in stages:
        member = {name: planned.member[name] for name in varying if name in planned.member}
        labels.append(member_label(member) or planned.name)
    return labels


def sample_members(
    stages: Sequence[StageT], count: int = SHOWN_MEMBERS
) -> tuple[list[StageT], list[StageT]]:
    """The members to show, spread over the matrix, and the others."""
    if len(stages) <= count:
        return list(stages), []
    rows = {round(i * (len(stages) - 1) / (count - 1)) for i in range(count)}
    shown = [stages[i] for i in sorted(rows)]
    return shown, [stage for i, stage in enumerate(stages) if i not in rows]


def hidden_members(report: ReportData, stages: Sequence[ReportStage]) -> HiddenMembers | None:
    """What the page says of members that it does not show; None without any."""
    if not stages:
        return None
    member = next((stage.planned.member for stage in stages if stage.planned.member), {})
    flags = [f"--set=matrix.{name}=[{value}]" for name, value in member.items()]
    command = report.command("report", *flags, "-o", "member.html")
    return HiddenMembers(len(stages), command)


def even_rows(count: int, sample_size: int) -> list[int]:
    """Evenly spread rows of a set, which may be sorted by class; all rows of a small set."""
    if count < sample_size:
        return list(range(count))
    return [i * count // sample_size for i in range(sample_size)]


def random_rows(count: int, sample_size: int, seed: int = 0) -> list[int]:
    """Random rows in ascending order, the same for the same seed.

    Args:
        count: the number of rows.
        sample_size: how many are drawn, at most.
        seed: of the draw.
    """
    if not count:
        return []
    order = PerImageRng(seed, torch.arange(1)).permutations(count)[0]
    return np.sort(order[:sample_size].numpy()).tolist()
